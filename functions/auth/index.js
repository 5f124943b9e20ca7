// Lets only requests with a valid token through to the origin, and tells it whose they are.
export default {
  async fetch(request, env) {
    const token = await env.AUTH.verify(request);
    if (!token.ok) return token.response;

    const url = new URL(request.url);
    if (url.pathname === "/auth/profile") url.pathname = "/auth/profile.json";
    // A subject may be any text, a header only ASCII without line breaks: it is percent-encoded, as in a URL.
    const subject = encodeURIComponent(token.subject ?? "");
    const toOrigin = new Request(url, request);
    toOrigin.headers.delete("authorization");
    toOrigin.headers.set("x-skerry-subject", subject);

    const answer = await fetch(toOrigin);
    const response = new Response(answer.body, answer);
    response.headers.set("x-skerry-subject", subject);
    response.headers.set("cache-control", "private, no-store");
    return response;
  },
};
