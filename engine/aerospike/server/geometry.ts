type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** Whether bytes are the text of a geometry that the server takes: what it indexes, not all that GeoJSON knows. */
export const isGeometry = (bytes: Uint8Array): boolean => {
  let value: Json;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as Json;
  } catch {
    return false;
  }
  return isShape(value, true);
};

const isShape = (value: Json | undefined, mayBeFeature: boolean): boolean => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const { type, coordinates, geometry } = value as { readonly [key: string]: Json };
  switch (type) {
    case 'Point':
      return isPosition(coordinates);
    case 'Polygon':
      return isPolygon(coordinates);
    case 'MultiPolygon':
      return isListOf(coordinates, isPolygon);
    case 'AeroCircle':
      return (
        Array.isArray(coordinates) &&
        coordinates.length === 2 &&
        isPosition(coordinates[0]) &&
        Number(coordinates[1]) >= 0
      );
    case 'Feature':
      return mayBeFeature && isShape(geometry, false);
    default:
      return false;
  }
};

const isListOf = (value: Json | undefined, test: (item: Json) => boolean): boolean =>
  Array.isArray(value) && value.length > 0 && value.every(test);

/** Rings of at least four positions. */
const isPolygon = (value: Json | undefined): boolean =>
  isListOf(value, (ring) => Array.isArray(ring) && ring.length >= 4 && ring.every(isPosition));

/** Longitude and latitude in degrees. */
const isPosition = (value: Json | undefined): boolean => {
  if (!Array.isArray(value) || value.length < 2) return false;
  const [longitude, latitude] = value as readonly Json[];
  return isDegrees(longitude, 180) && isDegrees(latitude, 90);
};

const isDegrees = (value: Json, max: number): boolean => typeof value === 'number' && Math.abs(value) <= max;
