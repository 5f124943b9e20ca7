export default {
  fetch(request, env) {
    const { cohort, setCookie } = env.CHECKOUT.assign(request);
    const response = new Response(`${cohort}\n`, { headers: { "x-cohort": cohort, "cache-control": "private, no-store" } });
    // A new client: from now on the cookie says who it is, in every PoP.
    if (setCookie) response.headers.append("set-cookie", setCookie);
    return response;
  },
};
