import { choose, type Regions } from "./regions.ts";

interface Env {
  REGIONS: Regions;
}

export default {
  fetch(request: Request & { cf: Record<string, string> }, env: Env): Response {
    const { country, city, colo } = request.cf;
    return Response.json({ country, city, colo, region: choose(request.cf, env.REGIONS) });
  },
};
