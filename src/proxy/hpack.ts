import { decodeHuffman, HpackError } from './hpack-huffman.ts';
import { STATIC_COUNT, STATIC_TABLE } from './hpack-tables.ts';

/** What every entry of a list or table counts beside its bytes (RFC 7541 section 4.1, RFC 9113 section 6.5.2). */
export const ENTRY_OVERHEAD = 32;
/** Size of the dynamic tables, in both directions: the protocol's own default (RFC 9113 section 6.5.2). */
export const TABLE_SIZE = 4_096;

/** A decoded block: name, value, name, value, … as Latin-1 text. */
export interface FieldBlock {
  readonly fields: string[];
  /** There was more than allowed: what went beyond is left out. */
  readonly tooLarge: boolean;
}

/** The table that both ends fill in the same way (RFC 7541 section 2.3.2); entries are counted from the newest, 0. */
class DynamicTable {
  #capacity = TABLE_SIZE;
  #size = 0;
  /** Name, value, name, value, …, the oldest first. */
  #entries: string[] = [];
  /** Strings at the beginning of the list that have been evicted. */
  #evicted = 0;
  /** Entries that were ever added. */
  added = 0;

  get count(): number {
    return (this.#entries.length - this.#evicted) / 2;
  }

  get capacity(): number {
    return this.#capacity;
  }

  name(index: number): string | undefined {
    return this.#at(this.#entries.length - 2 * index - 2);
  }

  value(index: number): string | undefined {
    return this.#at(this.#entries.length - 2 * index - 1);
  }

  #at(place: number): string | undefined {
    return place < this.#evicted ? undefined : this.#entries[place];
  }

  resize(capacity: number): void {
    this.#capacity = capacity;
    this.#shrinkTo(capacity);
  }

  add(name: string, value: string): void {
    const size = name.length + value.length + ENTRY_OVERHEAD;
    this.added++;
    // RFC 7541 section 4.4: what is larger than the table empties it.
    this.#shrinkTo(Math.max(0, this.#capacity - size));
    if (size > this.#capacity) return;
    this.#entries.push(name, value);
    this.#size += size;
  }

  #shrinkTo(size: number): void {
    while (this.#size > size) {
      this.#size -= (this.#entries[this.#evicted] ?? '').length + (this.#entries[this.#evicted + 1] ?? '').length;
      this.#size -= ENTRY_OVERHEAD;
      this.#evicted += 2;
    }
    if (this.#evicted < 256) return;
    this.#entries = this.#entries.slice(this.#evicted);
    this.#evicted = 0;
  }
}

/** No integer in a block has a reason to be larger. */
const MAX_INTEGER = 2 ** 24;

/** Decodes the blocks of one connection, in their order. */
export class HpackDecoder {
  readonly #table = new DynamicTable();
  #block: Buffer = Buffer.alloc(0);
  #at = 0;

  /**
   * Throws HpackError when the block is not valid. What goes beyond `maxSize` (in bytes, with ENTRY_OVERHEAD for each
   * field) is decoded for the table's sake, but not kept.
   */
  decode(block: Buffer, maxSize: number): FieldBlock {
    this.#block = block;
    this.#at = 0;
    const fields: string[] = [];
    let size = 0;
    while (this.#at < block.length) {
      const first = block[this.#at] ?? 0;
      let name: string;
      let value: string;
      if (first >= 0x80) {
        const index = this.#integer(0x7f);
        name = this.#nameAt(index);
        value = this.#valueAt(index);
      } else if (first >= 0x20 && first < 0x40) {
        // RFC 7541 section 4.2: only at the beginning of a block.
        if (fields.length > 0 || size > 0) throw new HpackError('the table is resized in the middle of a block');
        const capacity = this.#integer(0x1f);
        if (capacity > TABLE_SIZE) throw new HpackError('the table is made too large');
        this.#table.resize(capacity);
        continue;
      } else {
        const index = this.#integer(first >= 0x40 ? 0x3f : 0x0f);
        name = index === 0 ? this.#string() : this.#nameAt(index);
        value = this.#string();
        if (first >= 0x40) this.#table.add(name, value);
      }
      size += name.length + value.length + ENTRY_OVERHEAD;
      if (size <= maxSize) fields.push(name, value);
    }
    this.#block = Buffer.alloc(0);
    return { fields, tooLarge: size > maxSize };
  }

  #nameAt(index: number): string {
    return this.#known(
      index <= STATIC_COUNT ? STATIC_TABLE[2 * index - 2] : this.#table.name(index - STATIC_COUNT - 1),
    );
  }

  #valueAt(index: number): string {
    return this.#known(
      index <= STATIC_COUNT ? STATIC_TABLE[2 * index - 1] : this.#table.value(index - STATIC_COUNT - 1),
    );
  }

  #known(text: string | undefined): string {
    if (text === undefined) throw new HpackError('there is no such entry');
    return text;
  }

  /** RFC 7541 section 5.1. The mask selects the bits of the first octet that belong to it. */
  #integer(mask: number): number {
    let value = (this.#block[this.#at++] ?? 0) & mask;
    if (value < mask) return value;
    let factor = 1;
    for (;;) {
      const octet = this.#block[this.#at++];
      if (octet === undefined) throw new HpackError('the block is cut off');
      value += (octet & 0x7f) * factor;
      if (value > MAX_INTEGER || factor > MAX_INTEGER) throw new HpackError('an integer is too large');
      if (octet < 0x80) return value;
      factor *= 0x80;
    }
  }

  /** RFC 7541 section 5.2. */
  #string(): string {
    const first = this.#block[this.#at];
    if (first === undefined) throw new HpackError('the block is cut off');
    const length = this.#integer(0x7f);
    const end = this.#at + length;
    if (end > this.#block.length) throw new HpackError('the block is cut off');
    const from = this.#at;
    this.#at = end;
    return first >= 0x80 ? decodeHuffman(this.#block, from, end) : this.#block.toString('latin1', from, end);
  }
}

/** Fields whose values hardly ever come again: they would only push others out of the table. */
const NOT_INDEXED = new Set([
  ...['date', 'content-length', 'etag', 'last-modified', 'expires', 'age', 'location', 'content-range', 'x-request-id'],
]);
/** Secrets: no hop may keep them in a table, where others could find them out by size (RFC 7541 section 7.1.3). */
const NEVER_INDEXED = new Set(['set-cookie', 'authorization', 'proxy-authenticate', 'www-authenticate']);
/** Longer values are not worth the room. */
const MAX_INDEXED = 512;

const STATIC_NAMES = new Map<string, number>();
const STATIC_FIELDS = new Map<string, number>();
for (let i = STATIC_COUNT; i > 0; i--) {
  const name = STATIC_TABLE[2 * i - 2] ?? '';
  STATIC_NAMES.set(name, i);
  STATIC_FIELDS.set(`${name}\0${STATIC_TABLE[2 * i - 1] ?? ''}`, i);
}

/** Encodes the blocks of one connection, in their order. Strings are sent as they are: Huffman coding costs more time than it saves. */
export class HpackEncoder {
  readonly #table = new DynamicTable();
  /** By `name\0value`: how many entries had been added before it. */
  readonly #indexed = new Map<string, number>();
  /** Sizes that the other end must be told: the smallest since the last block, and the present one. */
  #smallest: number | null = null;

  /** What the other end allows (SETTINGS_HEADER_TABLE_SIZE). */
  limit(size: number): void {
    const capacity = Math.min(size, TABLE_SIZE);
    if (capacity === this.#table.capacity) return;
    this.#smallest = Math.min(this.#smallest ?? capacity, capacity);
    this.#table.resize(capacity);
  }

  /** Names must be in lower case. */
  encode(fields: readonly string[]): Buffer {
    let room = 16;
    for (const text of fields) room += text.length + 6;
    const block = Buffer.allocUnsafe(room);
    let at = 0;
    if (this.#smallest !== null) {
      at = writeInteger(block, at, 0x20, 0x1f, this.#smallest);
      at = writeInteger(block, at, 0x20, 0x1f, this.#table.capacity);
      this.#smallest = null;
    }
    for (let i = 0; i < fields.length; i += 2) at = this.#encodeField(block, at, fields[i] ?? '', fields[i + 1] ?? '');
    return block.subarray(0, at);
  }

  #encodeField(block: Buffer, start: number, name: string, value: string): number {
    const key = `${name}\0${value}`;
    const index = STATIC_FIELDS.get(key) ?? this.#dynamicIndex(key);
    if (index !== undefined) return writeInteger(block, start, 0x80, 0x7f, index);
    const nameIndex = STATIC_NAMES.get(name) ?? 0;
    let at: number;
    if (NEVER_INDEXED.has(name)) {
      at = writeInteger(block, start, 0x10, 0x0f, nameIndex);
    } else if (NOT_INDEXED.has(name) || value.length > MAX_INDEXED) {
      at = writeInteger(block, start, 0x00, 0x0f, nameIndex);
    } else {
      at = writeInteger(block, start, 0x40, 0x3f, nameIndex);
      this.#remember(key, name, value);
    }
    if (nameIndex === 0) at = writeString(block, at, name);
    return writeString(block, at, value);
  }

  #dynamicIndex(key: string): number | undefined {
    const before = this.#indexed.get(key);
    if (before === undefined) return undefined;
    const index = this.#table.added - 1 - before;
    if (index < this.#table.count) return STATIC_COUNT + 1 + index;
    this.#indexed.delete(key);
    return undefined;
  }

  #remember(key: string, name: string, value: string): void {
    // What was evicted is only found out when it is looked for.
    if (this.#indexed.size > (2 * TABLE_SIZE) / ENTRY_OVERHEAD) this.#forgetEvicted();
    this.#indexed.set(key, this.#table.added);
    this.#table.add(name, value);
  }

  #forgetEvicted(): void {
    const oldest = this.#table.added - this.#table.count;
    for (const [key, before] of this.#indexed) if (before < oldest) this.#indexed.delete(key);
  }
}

function writeInteger(block: Buffer, start: number, pattern: number, mask: number, value: number): number {
  let at = start;
  if (value < mask) {
    block[at++] = pattern | value;
    return at;
  }
  block[at++] = pattern | mask;
  let rest = value - mask;
  while (rest >= 0x80) {
    block[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  block[at++] = rest;
  return at;
}

function writeString(block: Buffer, start: number, text: string): number {
  const at = writeInteger(block, start, 0, 0x7f, text.length);
  block.write(text, at, 'latin1');
  return at + text.length;
}
