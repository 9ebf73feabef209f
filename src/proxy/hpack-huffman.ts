import { HUFFMAN_LENGTHS } from './hpack-tables.ts';

/** A block of fields that can't be decoded: the connection is lost, since its tables are (RFC 9113 section 4.3). */
export class HpackError extends Error {}

const END_OF_STRING = 256;
const NO_SYMBOL = 511;
const INVALID = -1;

/**
 * For each inner node of the code's tree and each four bits: the node that they lead to and the octet that they complete
 * (no code is shorter than five bits, so it is at most one), as `node << 9 | octet`.
 */
const HUFFMAN_STEPS = new Int32Array(256 * 16);
/** Inner nodes at which a string may end: fewer than eight bits into the end-of-string code, which is all ones. */
const HUFFMAN_ENDS = new Uint8Array(256);
buildHuffmanSteps();

function buildHuffmanSteps(): void {
  const zero = new Int32Array(256);
  const one = new Int32Array(256);
  let nodes = 1;
  // Leaves are stored as the complement of their symbol. Codes of one length ascend with their symbols.
  let code = 0;
  for (let length = 1; length <= 30; length++) {
    code *= 2;
    for (let symbol = 0; symbol <= END_OF_STRING; symbol++) {
      if (HUFFMAN_LENGTHS[symbol] !== length) continue;
      let node = 0;
      for (let bit = length - 1; bit > 0; bit--) {
        const branch = (code >> bit) & 1 ? one : zero;
        if (branch[node] === 0) branch[node] = nodes++;
        node = branch[node] ?? 0;
      }
      (code & 1 ? one : zero)[node] = ~symbol;
      code++;
    }
  }
  for (let node = 0; node < nodes; node++) {
    for (let bits = 0; bits < 16; bits++) HUFFMAN_STEPS[16 * node + bits] = stepFrom(node, bits, zero, one);
  }
  for (let node = 0, length = 0; length < 8; length++, node = one[node] ?? 0) HUFFMAN_ENDS[node] = 1;
}

function stepFrom(start: number, bits: number, zero: Int32Array, one: Int32Array): number {
  let node = start;
  let octet = NO_SYMBOL;
  for (let bit = 3; bit >= 0; bit--) {
    const next = ((bits >> bit) & 1 ? one : zero)[node] ?? 0;
    if (next >= 0) {
      node = next;
      continue;
    }
    octet = ~next;
    if (octet === END_OF_STRING) return INVALID;
    node = 0;
  }
  return (node << 9) | octet;
}

/** No code is shorter than five bits: 1.6 times the bytes are enough. */
let scratch = Buffer.alloc(1_024);

/** The text of a string literal (RFC 7541 section 5.2), as Latin-1. Throws HpackError when it is not valid. */
export function decodeHuffman(block: Buffer, from: number, end: number): string {
  const most = Math.ceil(((end - from) * 8) / 5);
  if (scratch.length < most) scratch = Buffer.alloc(2 * most);
  let node = 0;
  let length = 0;
  for (let at = from; at < end; at++) {
    const octet = block[at] ?? 0;
    for (let shift = 4; shift >= 0; shift -= 4) {
      const step = HUFFMAN_STEPS[16 * node + ((octet >> shift) & 0x0f)] ?? INVALID;
      if (step === INVALID) throw new HpackError('a string contains its end');
      const symbol = step & 0x1ff;
      if (symbol !== NO_SYMBOL) scratch[length++] = symbol;
      node = step >> 9;
    }
  }
  // RFC 7541 section 5.2: padding is the beginning of the end-of-string code, shorter than an octet.
  if (HUFFMAN_ENDS[node] !== 1) throw new HpackError('a string is not padded as it must be');
  return scratch.toString('latin1', 0, length);
}
