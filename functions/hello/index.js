export default {
  fetch(request, env) {
    const { colo, country } = request.cf;
    return new Response(`${env.GREETING} from ${colo}${country ? ` to ${country}` : ""}!\n`);
  },
};
