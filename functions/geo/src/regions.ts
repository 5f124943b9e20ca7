import { nearestRegion } from "skerry:edge";

export type Regions = Record<string, [latitude: number, longitude: number]>;

// The region that serves a client: the nearest to where it is.
export function choose(place: Record<string, string>, regions: Regions): string {
  return nearestRegion(place, regions);
}
