import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Route, RouteTarget } from '../../src/messages.ts';
import { Router } from '../../src/proxy/router.ts';
import { Sweeper } from '../../src/proxy/sweeper.ts';
import type { Occupant, Target } from '../../src/proxy/target.ts';

function named(id: string, port = 1): RouteTarget {
  return { id, hash: id, revision: id, address: { host: '127.0.0.1', port } };
}

function route(active: RouteTarget | null, ...draining: RouteTarget[]): Route {
  return {
    version: 1,
    active,
    activeSince: 0,
    draining: draining.map((target) => ({ target, since: 0, deadline: 0 })),
  };
}

class Guest implements Occupant {
  retired = 0;
  wasCut = 0;
  onRetired(): void {
    this.retired++;
  }
  cut(): void {
    this.wasCut++;
  }
}

function newRouter(): { router: Router; drained: () => number } {
  let drained = 0;
  const router = new Router(
    { connect: 1_000, response: 1_000, responseIdle: 1_000 },
    new Sweeper(1_000),
    () => drained++,
  );
  return { router, drained: () => drained };
}

function current(router: Router): Target {
  assert.ok(router.current);
  return router.current;
}

test('the active container of the newest route takes new requests', () => {
  const { router } = newRouter();
  assert.equal(router.current, null);
  assert.equal(router.update(route(named('a'))), true);
  assert.equal(current(router).id, 'a');
  assert.equal(router.update(route(named('a'))), false, 'the same container again is no switch');
  assert.equal(router.update(route(named('b'), named('a'))), true);
  assert.equal(current(router).id, 'b');
  assert.equal(router.update(route(null, named('b'))), true);
  assert.equal(router.current, null);
});

test('guests of a container that leaves service are told, and the last one to leave drains it', () => {
  const { router, drained } = newRouter();
  router.update(route(named('a')));
  const old = current(router);
  const guests = [new Guest(), new Guest()] as const;
  const [first, second] = [old.claim(guests[0]), old.claim(guests[1])];
  router.update(route(named('b'), named('a')));
  assert.deepEqual(
    guests.map(({ retired }) => retired),
    [1, 1],
  );
  old.release(first);
  assert.equal(drained(), 0);
  old.release(second);
  assert.equal(drained(), 1);
  old.release(second);
  assert.equal(drained(), 1, 'leaving twice counts once');
});

test('a target is kept as long as it is named or busy, and the counts of its container for longer', () => {
  const { router } = newRouter();
  router.update(route(named('a')));
  const guest = new Guest();
  const old = current(router);
  const place = old.claim(guest);
  router.update(route(named('b'), named('a')));
  const known = () => router.stats().map(({ id, inFlight }) => [id, inFlight]);
  router.update(route(named('b')));
  assert.deepEqual(known().slice(0, 2), [
    ['a', 1],
    ['b', 0],
  ]);
  old.release(place);
  assert.deepEqual(known().slice(0, 2), [
    ['a', 0],
    ['b', 0],
  ]);
  router.update(route(named('a')));
  assert.notEqual(current(router), old);
});

test('a draining container that comes back is the same target, one with a new address another', () => {
  const { router } = newRouter();
  router.update(route(named('a')));
  const first = current(router);
  const guest = new Guest();
  first.claim(guest);
  router.update(route(named('b'), named('a')));
  router.update(route(named('a'), named('b')));
  assert.equal(current(router), first);
  assert.equal(first.retired, false);
  router.update(route(named('a', 2), named('b')));
  assert.notEqual(current(router), first);
  assert.deepEqual(router.stats().find(({ id }) => id === 'a')?.inFlight, 1, 'counts of one container are summed up');
});

test('cut reaches everything on a container, at whatever address, and nothing else', () => {
  const { router } = newRouter();
  const guests = [new Guest(), new Guest(), new Guest(), new Guest()] as const;
  router.update(route(named('a')));
  current(router).claim(guests[0]);
  current(router).claimTunnel(guests[1]);
  router.update(route(named('a', 2)));
  current(router).claim(guests[2]);
  router.update(route(named('b'), named('a', 2)));
  current(router).claim(guests[3]);
  router.cut('a');
  assert.deepEqual(
    guests.map(({ wasCut }) => wasCut),
    [1, 1, 1, 0],
  );
});
