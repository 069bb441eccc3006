/**
 * Particles that every path through pitr must carry bit for bit: one of each type, and the edges on which clients and
 * backup tools are known to lose something. All of them pass assertParticle. None has an index-hint flag (10h) in a list or
 * map: written to a real server, that can crash it.
 */
import { ParticleType as T } from '../../engine/particle.ts';

export interface CorpusParticle {
  readonly name: string;
  readonly type: number;
  readonly bytes: Uint8Array;
}

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
const text = (value: string): Uint8Array => new Uint8Array(Buffer.from(value, 'utf8'));
const join = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));
const entry = (type: number, name: string, bytes: Uint8Array | string): CorpusParticle => ({
  name,
  type,
  bytes: typeof bytes === 'string' ? hex(bytes) : bytes,
});

const point = '{"type":"Point","coordinates":[0.5,-0.25]}';
const blobHeader = (length: number) => hex(`da${(length + 1).toString(16).padStart(4, '0')}04`);
const zeros = (length: number) => new Uint8Array(length);

/** Nested lists, the innermost empty: `levels` lists in all. */
export const nestedLists = (levels: number): Uint8Array =>
  join(new Uint8Array(levels - 1).fill(0x91), hex('90'));

/** Nested maps, each the value of the one key of the next. */
const nestedMaps = (levels: number, opening: string, innermost: string): Uint8Array =>
  join(...Array.from({ length: levels - 1 }, () => hex(opening)), hex(innermost));

/** What a current server would store as it is: reading and writing these as JS values gives the same bytes. */
export const canonicalParticles: readonly CorpusParticle[] = [
  entry(T.integer, 'integer 0', '0000000000000000'),
  entry(T.integer, 'integer 1', '0000000000000001'),
  entry(T.integer, 'integer -1', 'ffffffffffffffff'),
  entry(T.integer, 'integer 2^53-1, the last safe one', '001fffffffffffff'),
  entry(T.integer, 'integer 2^53, the first unsafe one', '0020000000000000'),
  entry(T.integer, 'integer -2^53+1', 'ffe0000000000001'),
  entry(T.integer, 'integer -2^53', 'ffe0000000000000'),
  entry(T.integer, 'integer max', '7fffffffffffffff'),
  entry(T.integer, 'integer min', '8000000000000000'),

  entry(T.float, 'float 1.0, not the integer 1', '3ff0000000000000'),
  entry(T.float, 'float 0.0', '0000000000000000'),
  entry(T.float, 'float -0.0', '8000000000000000'),
  entry(T.float, 'float 0.1', '3fb999999999999a'),
  entry(T.float, 'float 1e300, a whole number', '7e37e43c8800759c'),
  entry(T.float, 'float smallest subnormal', '0000000000000001'),
  entry(T.float, 'float max', '7fefffffffffffff'),
  entry(T.float, 'float Infinity', '7ff0000000000000'),
  entry(T.float, 'float -Infinity', 'fff0000000000000'),
  entry(T.float, 'float NaN', '7ff8000000000000'),
  entry(T.float, 'float NaN with sign', 'fff8000000000000'),
  entry(T.float, 'float NaN with payload', '7ff8000000000001'),
  entry(T.float, 'float signalling NaN', '7ff0000000000001'),

  entry(T.bool, 'bool false', '00'),
  entry(T.bool, 'bool true', '01'),

  entry(T.string, 'string empty', ''),
  entry(T.string, 'string ascii', text('hello')),
  entry(T.string, 'string beyond the BMP', text('Zürich 東京 🚀')),
  entry(T.string, 'string with NUL', text('a\0b')),
  entry(T.string, 'string with BOM', text('\ufeffx')),
  entry(T.string, 'string of line separators and quotes', text('"\\\n\r\u2028\u2029')),
  entry(T.string, 'string that looks like a JSON form', text('{"$int":"1"}')),
  entry(T.string, 'string not UTF-8', 'ff fe 80'),
  entry(T.string, 'string with an encoded surrogate', 'ed a0 80'),
  entry(T.string, 'string cut inside a character', 'e6 9d'),

  entry(T.blob, 'blob empty', ''),
  entry(T.blob, 'blob', '00 01 fe ff'),
  entry(T.blob, 'blob 70000 bytes', zeros(70_000)),
  entry(T.java, 'Java blob', 'ac ed 00 05 74 00 01 61'),
  entry(T.csharp, 'C# blob', '00 01'),
  entry(T.python, 'Python blob', text('\x80\x02U\x01aq\x01.')),
  entry(T.ruby, 'Ruby blob', '04 08 69 06'),
  entry(T.php, 'PHP blob', text('i:1;')),
  entry(T.erlang, 'Erlang blob', '83 61 01'),
  entry(T.erlang, 'Erlang blob empty', ''),
  entry(T.vector, 'vector', '01 00 00 00 00 00 80 3f'),
  entry(T.hll, 'HLL of three strings', '000400000000000000000000000000 4080003000000000'),
  entry(T.hll, 'HLL with minhash bits, empty', join(hex('00 04 04'), zeros(28))),

  entry(T.geojson, 'GeoJSON without cells', join(hex('00 0000'), text(point))),
  entry(T.geojson, 'GeoJSON with one cell', join(hex('00 0001 0fffe00000000001'), text(point))),
  entry(
    T.geojson,
    'GeoJSON circle',
    join(hex('00 0000'), text('{"type":"AeroCircle","coordinates":[[0.0,0.5],1000.0]}')),
  ),
  entry(
    T.geojson,
    'GeoJSON polygon with spaces and a member of no meaning',
    join(
      hex('00 0000'),
      text('{ "coordinates":[[[0,0],[0,1],[1,1],[1,0],[0,0]]] , "type":"Polygon", "x": "ü"}'),
    ),
  ),

  entry(T.list, 'list empty', '90'),
  entry(T.list, 'list ordered empty', '91 c7 00 01'),
  entry(T.list, 'list ordered [5, 7]', '93 c7 00 01 05 07'),
  entry(
    T.list,
    'list of the integers at every width',
    [
      '9f 00 7f cc80 ccff cd0100 cdffff ce00010000 ceffffffff cf0000000100000000 cfffffffffffffffff',
      'ff e0 d0df d18000 d280000000',
    ].join(''),
  ),
  entry(T.list, 'list of 64-bit negatives', '93 d0 80 d3 ffffffff7fffffff d3 8000000000000000'),
  entry(T.list, 'list of nil and bools', '93 c0 c2 c3'),
  entry(
    T.list,
    'list [1, 1.0, -0.0, NaN payload]',
    '94 01 cb3ff0000000000000 cb8000000000000000 cb7ff8000000000001',
  ),
  entry(T.list, 'list [3.5]', '91 cb 400c000000000000'),
  entry(T.list, 'list with float32', '92 ca 3fc00000 ca 7fc00001'),
  entry(T.list, 'list with empty string and blob', '92 a1 03 a1 04'),
  entry(T.list, 'list with a string not UTF-8', '91 a3 03 ff fe'),
  entry(T.list, 'list with GeoJSON', join(hex('91 d9 2b 17'), text(point))),
  entry(T.list, 'list with HLL, Java blob and an unknown type', '93 a3 12 00 08 a2 07 ac a2 63 01'),
  entry(
    T.list,
    'list with strings around the header limits',
    join(
      hex('94 bf 03'),
      text('x'.repeat(30)),
      hex('d9 20 03'),
      text('x'.repeat(31)),
      hex('d9 ff 03'),
      text('x'.repeat(254)),
      hex('da 0100 03'),
      text('x'.repeat(255)),
    ),
  ),
  entry(T.list, 'list with a 65534-byte blob', join(hex('91'), blobHeader(65_534), zeros(65_534))),
  entry(T.list, 'list with a 65535-byte blob', join(hex('91 db 00010000 04'), zeros(65_535))),
  entry(T.list, 'list of 15 items', join(hex('9f'), zeros(15))),
  entry(T.list, 'list of 16 items', join(hex('dc 0010'), zeros(16))),
  entry(T.list, 'list of 65536 items', join(hex('dd 00010000'), zeros(65_536))),
  entry(
    T.list,
    'list ordered of every type, in their order',
    '9a c70001 c0 c2 c3 05 a20361 90 80 a20401 cb3ff0000000000000',
  ),
  entry(T.list, 'list ordered with an item twice', '94 c70001 05 05 07'),
  entry(T.list, 'list of ordered lists', '92 92 c70001 05 93 c70001 05 06'),
  entry(T.list, 'list nested 50 levels', nestedLists(50)),
  entry(T.list, 'list nested 256 levels', nestedLists(256)),
  entry(T.list, 'list of maps and lists', '93 90 80 92 81 01 c0 91 c7 00 01'),

  entry(T.map, 'map empty', '80'),
  entry(T.map, 'map K-ordered empty', '81 c7 00 01 c0'),
  entry(T.map, 'map KV-ordered empty', '81 c7 00 03 c0'),
  entry(T.map, 'map {"a": 1}', '81 a2 03 61 01'),
  entry(T.map, 'map with integer keys', '83 ff 01 01 02 cd 0100 03'),
  entry(T.map, 'map with the keys 1 and "1"', '82 01 a1 03 a2 03 31 a1 03'),
  entry(T.map, 'map with integer, string and blob keys', '84 05 01 a1 03 02 a2 03 61 03 a2 04 61 04'),
  entry(T.map, 'map K-ordered with integer keys', '84 c7 00 01 c0 01 a2 03 61 02 a2 03 62 0a c0'),
  entry(T.map, 'map KV-ordered', '82 c7 00 03 c0 a2 03 61 01'),
  entry(T.map, 'map V-ordered', '82 c7 00 02 c0 a2 03 61 01'),
  entry(T.map, 'map with a prefix before its continuation', '83 a2 03 61 01 a3 03 61 61 02 a2 03 62 03'),
  entry(
    T.map,
    'map with string keys across header sizes',
    join(hex('82 d9 21 03'), text('a'.repeat(32)), hex('01 a2 03 62 02')),
  ),
  entry(T.map, 'map with the key "$int"', '81 a5 03 24 69 6e 74 01'),
  entry(T.map, 'map with the key "__proto__"', join(hex('81 aa 03'), text('__proto__'), hex('01'))),
  entry(T.map, 'map with a key not UTF-8', '81 a2 03 ff 01'),
  entry(T.map, 'map with 64-bit keys', '82 d3 8000000000000000 01 cf 7fffffffffffffff 02'),
  entry(T.map, 'map with negative keys', '84 d38000000000000000 01 d080 02 ff 03 00 04'),
  entry(T.map, 'map K-ordered with blob keys, one of them empty', '83 c70001 c0 a104 01 a20400 02'),
  entry(
    T.map,
    'map {1: -0.0, 2: NaN payload, 3: 1.0, 4: float32}',
    '84 01 cb8000000000000000 02 cb7ff8000000000001 03 cb3ff0000000000000 04 ca3fc00000',
  ),
  entry(T.map, 'map of GeoJSON', join(hex('81 01 d9 2b 17'), text(point))),
  entry(T.map, 'map nested 50 levels', nestedMaps(50, '81 01', '80')),
  entry(T.map, 'map K-ordered nested 50 levels', nestedMaps(50, '82 c70001 c0 01', '81 c70001 c0')),
  entry(T.map, 'map of a map of a list', '81 a2 03 61 82 c7 00 01 c0 01 92 c0 cb 3ff0000000000000'),
  entry(
    T.map,
    'map of 16 pairs',
    join(hex('de 0010'), ...Array.from({ length: 16 }, (_, i) => Uint8Array.of(i, 0))),
  ),
];

/** Read and written as JS values like those, but refused by a server, which looks into them. */
export const refusedParticles: readonly CorpusParticle[] = [
  entry(T.hll, 'HLL that is none', '00 00 08 00 00 00 00 00 00 00 00 ff 01 80'),
  entry(
    T.geojson,
    'GeoJSON region without coordinates',
    join(hex('01 0002'), zeros(16), text('{"type":"AeroCircle"}')),
  ),
  entry(T.geojson, 'GeoJSON not UTF-8', '00 0000 7b ff 7d'),
  entry(T.geojson, 'GeoJSON no text', '00 0000'),
];

/** Stored and shipped as bytes like any other, but not what a current server would make of them; some are not msgpack. */
export const unusualParticles: readonly CorpusParticle[] = [
  entry(T.list, 'long-form integer', '91 cd 0001'),
  entry(T.list, 'positive integer as a signed one', '91 d3 0000000000000001'),
  entry(T.list, 'long-form count', 'dc 0001 05'),
  entry(T.list, 'blob with a bin header', '91 c4 03 04 01 02'),
  entry(T.list, 'order marker without an order', '92 c7 00 00 05'),
  entry(T.map, 'unsorted map, as servers before 8 stored it', '82 a2 03 62 01 a2 03 61 02'),
  entry(T.map, 'unsorted K-ordered map', '83 c7 00 01 c0 02 00 01 00'),
  entry(T.map, 'duplicate keys', '82 01 02 01 03'),
  entry(T.map, 'keys of types that servers before 8 accepted', '83 c3 01 cb 3ff8000000000000 02 90 03'),
  entry(T.list, 'string without a type byte', '91 a0'),
  entry(T.list, 'malformed: truncated integer', '91 cd 01'),
  entry(T.list, 'malformed: count beyond the end', 'dd ffffffff'),
  entry(T.map, 'malformed: count beyond the end', 'df 80000000 01 02'),
  entry(T.list, 'malformed: string length beyond the end', '91 db ffffffff 03'),
  entry(T.list, 'malformed: trailing bytes', '90 00'),
  entry(T.list, 'malformed: wildcard', '91 d4 ff 00'),
  entry(T.list, 'malformed: unused tag', '91 c1'),
  entry(T.list, 'malformed: unknown marker flag', '91 c7 00 04'),
  entry(T.list, 'malformed: marker cut short', '91 c7 00'),
  entry(T.list, 'malformed: marker in second place', '92 01 c7 00 01'),
  entry(T.map, 'malformed: marker with a value', '81 c7 00 01 05'),
  entry(T.list, 'malformed: 257 levels', nestedLists(257)),
  entry(T.list, 'malformed: 100000 levels', nestedLists(100_000)),
  entry(T.list, 'a map under the type of a list', '80'),
  entry(T.map, 'a list under the type of a map', '90'),
  entry(T.list, 'an integer under the type of a list', '05'),
];

export const particleCorpus: readonly CorpusParticle[] = [
  ...canonicalParticles,
  ...refusedParticles,
  ...unusualParticles,
];

/** Names at the limit of 15 bytes, in one to four bytes a character. */
export const binNameCorpus: readonly string[] = [
  'b',
  'fifteen-bytes-x',
  'ééééééé1',
  '東東東東東',
  '🚀🚀🚀abc',
  '__proto__',
  '$a',
];
