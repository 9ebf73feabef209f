import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Kinds of content, each as much of it as is asked for (bytes), the same in every run. */
export const KINDS: Record<string, { type: string; make: (length: number) => Buffer }> = {
  json: { type: 'application/json', make: json },
  html: { type: 'text/html; charset=utf-8', make: html },
  js: { type: 'text/javascript', make: javascript },
};

const root = join(import.meta.dirname, '..');
const words = ['README.md', 'ARCHITECTURE.md']
  .map((name) => readFileSync(join(root, name), 'utf8'))
  .join(' ')
  .split(/[^A-Za-z]+/)
  .filter((word) => word.length > 2);

let state = 1;

/** 0 ≤ number < 1: the same numbers in every run. */
function random(): number {
  state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
  return state / 2 ** 31;
}

function some(count: number): string {
  return Array.from({ length: count }, () => words[Math.floor(random() * words.length)] ?? '').join(' ');
}

/** What an API lists. */
function json(length: number): Buffer {
  let text = '[';
  while (text.length < length) {
    const entry = {
      id: Math.floor(random() * 1e9),
      name: some(2),
      email: `${some(1)}@example.com`,
      createdAt: new Date(1.7e12 + random() * 1e10).toISOString(),
      price: Number((random() * 1_000).toFixed(2)),
      tags: [some(1), some(1)],
      description: some(12),
      active: random() < 0.5,
    };
    text += `${JSON.stringify(entry)},`;
  }
  return Buffer.from(text).subarray(0, length);
}

/** A page of a shop. */
function html(length: number): Buffer {
  let text = '<!doctype html><html><head><title>Shop</title></head><body><ul class="products">';
  while (text.length < length) {
    const id = Math.floor(random() * 1e6);
    text += `
  <li class="product product--card" id="p${id}"><a href="/products/${some(1).toLowerCase()}-${id}">
    <h2 class="product__title">${some(3)}</h2></a><p class="product__text">${some(18)}</p>
    <span class="product__price">${(random() * 99).toFixed(2)}</span></li>`;
  }
  return Buffer.from(text).subarray(0, length);
}

/** From the middle of a large program. */
function javascript(length: number): Buffer {
  return readFileSync(join(root, 'node_modules/typescript/lib/typescript.js')).subarray(3_000_000, 3_000_000 + length);
}
