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
  growth,
  slowClients,
  switches,
  idleConnections,
];
