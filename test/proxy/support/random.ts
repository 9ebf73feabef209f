/** Random numbers that can be had again from their seed (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** 0 ≤ number < 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b_79f5) | 0;
    let word = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word;
    return ((word ^ (word >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 up to, and without, `end`. */
  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  /** A whole number, both ends included. */
  between(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  /** True as often as `share` says, 0–1. */
  chance(share: number): boolean {
    return this.next() < share;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.between(0, choices.length - 1)] as T;
  }

  /** Cuts bytes into at most `most` pieces, none of them empty. */
  split(bytes: Buffer, most: number): Buffer[] {
    const cuts = new Set([0, bytes.length]);
    for (let left = this.between(0, most - 1); left > 0; left--) cuts.add(this.between(0, bytes.length));
    const sorted = [...cuts].sort((a, b) => a - b);
    return sorted.slice(1).map((end, i) => bytes.subarray(sorted[i], end));
  }
}

/** The seed that `PROPERTY_SEED` names, or a new one. */
export function seedOfRun(): number {
  return Number(process.env['PROPERTY_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
}

const EXTENSIONS = ['', '', ';a', ';name=value', ';q="quoted \\" text"', ';x=1;y=2'];
const TRAILERS = ['', '', 'X-Checksum: abc\r\n', 'Content-Length: 5\r\nX-Two: 2\r\n'];

/** A body in the chunked coding, with chunks of any size, extensions and trailers (RFC 9112 section 7.1). */
export function chunked(body: Buffer, random: Random): Buffer {
  const parts = random.split(body, 12).flatMap((chunk) => {
    const size = chunk.length.toString(16);
    const digits = random.chance(0.5) ? size.toUpperCase() : size.padStart(random.between(1, 8), '0');
    return [Buffer.from(`${digits}${random.pick(EXTENSIONS)}\r\n`), chunk, Buffer.from('\r\n')];
  });
  const last = `${'0'.repeat(random.between(1, 3))}${random.pick(EXTENSIONS)}\r\n${random.pick(TRAILERS)}\r\n`;
  return Buffer.concat([...parts, Buffer.from(last)]);
}
