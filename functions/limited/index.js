import { tooManyRequests } from "skerry:edge";

export default {
  async fetch(request, env) {
    const result = await env.LIMITER.limit({ key: request.headers.get("cf-connecting-ip") });
    if (!result.success) return tooManyRequests(result);
    return new Response(`${result.remaining} of ${result.limit} left\n`, { headers: result.headers });
  },
};
