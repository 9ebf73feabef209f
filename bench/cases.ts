import { type Case } from './case.ts';
import { growth } from './growth.ts';
import { idleConnections } from './idle-connections.ts';
import type { Load } from './load.ts';
import { loadCase } from './load-case.ts';
import { slowClients } from './slow-clients.ts';
import { switches } from './switches.ts';

function kept(connections: number, path = '/small', more: Partial<Load> = {}): Load {
  return { driver: 'autocannon', connections, path, ...more };
}

/** What a small answer is asked for with by a browser. */
const BROWSER = {
  accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8',
  'accept-language': 'de-DE,de;q=0.8,en-US;q=0.5,en;q=0.3',
  'cache-control': 'no-cache',
  cookie: `_shop_session=${'s'.repeat(320)}; theme=dark; consent=necessary`,
  pragma: 'no-cache',
  referer: 'https://shop.example/products?page=3&sort=price',
  'sec-ch-ua': '"Chromium";v="142", "Not_A Brand";v="99"',
  'sec-ch-ua-mobile': '?0',
  'sec-ch-ua-platform': '"Linux"',
  'sec-fetch-dest': 'document',
  'sec-fetch-mode': 'navigate',
  'sec-fetch-site': 'same-origin',
  'sec-fetch-user': '?1',
  'upgrade-insecure-requests': '1',
  'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36',
};

/** What none of the others looks like, so that nothing is fast only for what is measured. */
const SHAPES: readonly Case[] = [
  loadCase({
    name: 'get-headers',
    title: "Small GET with a browser's and a framework's header fields",
    load: kept(64, '/headers', { headers: BROWSER }),
  }),
  loadCase({ name: 'get-chunked', title: 'GET of 16 KiB that come in chunks', load: kept(64, '/chunked') }),
  loadCase({
    name: 'http10',
    title: 'Small GET by HTTP/1.0 clients, a new connection each',
    load: kept(32, '/small', { driver: 'new-connections', http10: true }),
  }),
  loadCase({ name: 'get-1k', title: 'GET of 1 KiB', load: kept(64, '/1k') }),
  loadCase({ name: 'get-128k', title: 'GET of 128 KiB', load: kept(32, '/128k') }),
  loadCase({ name: 'post-1k', title: 'POST of 1 KiB', load: kept(64, '/', { upload: 1_024 }) }),
  loadCase({ name: 'post-1m', title: 'POST of 1 MiB', load: kept(16, '/', { upload: 1_024 * 1_024 }) }),
];

/** In the order in which they run: those over plain HTTP first, so that a quick run starts every contender twice only. */
export const CASES: readonly Case[] = [
  loadCase({ name: 'get-1', title: 'Small GET, 1 connection kept alive', load: kept(1) }),
  loadCase({ name: 'get-64', title: 'Small GET, 64 connections kept alive', quick: true, load: kept(64) }),
  loadCase({
    name: 'get-64-wrk',
    title: 'The same, by wrk',
    needs: 'wrk',
    load: kept(64, '/small', { driver: 'wrk' }),
  }),
  loadCase({ name: 'get-1000', title: 'Small GET, 1,000 connections kept alive', quick: true, load: kept(1_000) }),
  loadCase({
    name: 'new',
    title: 'Small GET, a new connection each',
    quick: true,
    load: kept(32, '/small', { driver: 'new-connections' }),
  }),
  loadCase({ name: 'get-16k', title: 'GET of 16 KiB', load: kept(64, '/16k') }),
  loadCase({ name: 'get-1m', title: 'GET of 1 MiB', quick: true, load: kept(16, '/1m') }),
  loadCase({ name: 'post-64k', title: 'POST of 64 KiB', quick: true, load: kept(64, '/', { upload: 64 * 1_024 }) }),
  loadCase({
    name: 'gzip',
    title: 'GET of 16 KiB of HTML, gzipped',
    quick: true,
    coding: 'gzip',
    load: kept(64, '/text', { headers: { 'accept-encoding': 'gzip' } }),
  }),
  loadCase({
    name: 'tls',
    title: 'Small GET over TLS, 64 connections kept alive',
    quick: true,
    tls: true,
    load: kept(64),
  }),
  loadCase({
    name: 'tls-new',
    title: 'Small GET over TLS, a new connection and full handshake each',
    quick: true,
    tls: true,
    load: kept(32, '/small', { driver: 'new-connections' }),
  }),
  loadCase({
    name: 'h2',
    title: 'Small GET over HTTP/2, 16 connections of 10 streams',
    quick: true,
    tls: true,
    needs: 'h2load',
    load: kept(16, '/small', { driver: 'h2load' }),
  }),
  ...SHAPES,
  growth,
  slowClients,
  switches,
  idleConnections,
];
