import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import * as http from 'node:http';
import { test } from 'node:test';
import { RawClient, TestWorker } from './support/worker.ts';
import { RawUpstream, unreachable, Upstream } from './support/upstream.ts';

interface Served {
  status: number;
  /** When the client began to send, by the monotonic clock. */
  sentAt: bigint;
  doneAt: bigint;
  by: string;
}

/** Sends requests one after the other, kept alive or not, until told to stop; resolves with what became of each. */
async function keepSending(port: number, nth: number, going: () => boolean, tell: EventEmitter): Promise<Served[]> {
  const agent = new http.Agent({ keepAlive: nth % 4 !== 0, maxSockets: 1 });
  const served: Served[] = [];
  for (let i = 0; going(); i++) {
    const post = (nth + i) % 2 === 0;
    const options = { headers: post ? { 'content-length': 2_000 } : {}, method: post ? 'POST' : 'GET' };
    const sentAt = process.hrtime.bigint();
    const request = http.request({ agent, port, host: '127.0.0.1', ...options });
    request.end(post ? Buffer.alloc(2_000, 'x') : undefined);
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    let length = 0;
    for await (const chunk of response) length += (chunk as Buffer).length;
    assert.equal(length, post ? 2_000 : 2, 'a response is whole');
    const { statusCode: status = 0, headers } = response;
    served.push({ status, sentAt, doneAt: process.hrtime.bigint(), by: String(headers['served-by']) });
    tell.emit('served', sentAt);
  }
  agent.destroy();
  return served;
}

/** Answers with the request's body, every fiftieth time after a while. */
function echo(name: string): (request: http.IncomingMessage, response: http.ServerResponse) => void {
  let count = 0;
  return (request, response) => {
    response.setHeader('Served-By', name);
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = request.method === 'POST' ? Buffer.concat(chunks) : Buffer.from('ok');
      if (++count % 50 === 0) setTimeout(() => response.end(body), 30);
      else response.end(body);
    });
  };
}

test('under load no request fails, and none sent after a switch was acknowledged meets the old container', async (t) => {
  const upstreams = [await Upstream.start(t, echo('0')), await Upstream.start(t, echo('1'))] as const;
  const worker = await TestWorker.start(t, { route: { active: upstreams[0].target } });
  let going = true;
  const tell = new EventEmitter();
  const clients = Array.from({ length: 64 }, (_, nth) => keepSending(worker.port, nth, () => going, tell));
  /** When which container alone was in service. */
  const terms: { name: string; from: bigint; to: bigint }[] = [];
  for (let flip = 1; flip <= 200; flip++) {
    await worker.switchTo(upstreams[(flip % 2) as 0 | 1].target);
    const from = process.hrtime.bigint();
    for (let served = 0; served < 8;) {
      const [sentAt] = (await once(tell, 'served')) as [bigint];
      if (sentAt > from) served++;
    }
    terms.push({ name: String(flip % 2), from, to: process.hrtime.bigint() });
  }
  going = false;
  const served = (await Promise.all(clients)).flat();
  assert.deepEqual([...new Set(served.map(({ status }) => status))], [200]);
  assert.equal(upstreams[0].begun.length + upstreams[1].begun.length, served.length, 'nothing was sent twice');
  // What was sent and answered while one container was in service must have been answered by that one.
  const within = terms.flatMap(({ name, from, to }) =>
    served.filter(({ sentAt, doneAt }) => sentAt > from && doneAt < to).map(({ by }) => ({ by, name })),
  );
  assert.ok(within.length >= 8 * 200, `${within.length} requests were sent and answered within a term`);
  assert.deepEqual(
    within.filter(({ by, name }) => by !== name),
    [],
  );
});

test('a request that waits for a connection to the old container goes to the new one at the switch', async (t) => {
  const fresh = await Upstream.start(t, (_, response) => response.end('new'));
  const worker = await TestWorker.start(t, { route: { active: await unreachable(t) } });
  const client = await RawClient.connect(t, worker.port);
  client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx');
  await worker.statsWhen(({ targets }) => targets[0]?.inFlight === 1);
  await worker.switchTo(fresh.target);
  await client.until(/new$/);
});

test('requests that run on the old container finish there, and stats say at once when it is drained', async (t) => {
  const held: http.ServerResponse[] = [];
  const old = await Upstream.start(t, (_, response) => held.push(response));
  const fresh = await Upstream.start(t, (_, response) => response.end('new'));
  const worker = await TestWorker.start(t, { route: { active: old.target } });
  const client = await RawClient.connect(t, worker.port);
  const arrived = once(old.server, 'request');
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await arrived;
  await worker.switchTo(fresh.target);
  assert.equal(worker.runningOn(old.target).inFlight, 1, 'counts come before the acknowledgement');
  const drained = worker.statsWhen((stats) => worker.runningOn(old.target, stats).inFlight === 0);
  held[0]?.end('old');
  await client.until(/old$/);
  const stats = await drained;
  assert.equal(stats.targets.find(({ id }) => id === old.target.id)?.requests, 1);
  client.received = Buffer.alloc(0);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await client.until(/new$/);
});

test('idle connections to the old container are closed at the switch', async (t) => {
  const old = await RawUpstream.answering(t, 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold');
  const fresh = await Upstream.start(t, (_, response) => response.end('new'));
  const worker = await TestWorker.start(t, { route: { active: old.target } });
  const client = await RawClient.connect(t, worker.port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await client.until(/old$/);
  assert.equal(old.sockets.size, 1);
  const closed = once(old.events, 'end');
  await worker.switchTo(fresh.target);
  await closed;
});

test('a draining container can come back, and a container can change its address', async (t) => {
  const a = await Upstream.start(t, (_, response) => response.end('a'));
  const b = await Upstream.start(t, (_, response) => response.end('b'));
  const moved = await Upstream.start(t, (_, response) => response.end('moved'));
  const worker = await TestWorker.start(t, { route: { active: a.target } });
  const client = await RawClient.connect(t, worker.port);
  for (const [target, answer] of [
    [a.target, 'a'],
    [b.target, 'b'],
    [a.target, 'a'],
    [{ ...a.target, address: moved.target.address }, 'moved'],
  ] as const) {
    await worker.switchTo(target);
    client.received = Buffer.alloc(0);
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await client.until(new RegExp(`\r\n\r\n${answer}$`));
  }
});

test('without a container in service clients get 503 with Retry-After until one comes', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('here'));
  const worker = await TestWorker.start(t);
  const client = await RawClient.connect(t, worker.port);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  const text = await client.until(/request .*\n$/);
  assert.match(text, /^HTTP\/1\.1 503 /);
  assert.match(text, /\r\nRetry-After: \d+\r\n/);
  assert.match(text, /\r\nWunderproxy-Error: no_active_container\r\n/);
  await worker.switchTo(upstream.target);
  client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  await client.until(/here$/);
});

test('cut breaks off what runs on a container: 504 before the headers, a broken connection after them', async (t) => {
  const old = await Upstream.start(t, (request, response) => {
    if (request.url === '/silent') return;
    response.writeHead(200, { 'content-length': 100 });
    response.write('begun');
  });
  const fresh = await Upstream.start(t, (_, response) => response.end('new'));
  const worker = await TestWorker.start(t, { route: { active: old.target } });
  const silent = await RawClient.connect(t, worker.port);
  const begun = await RawClient.connect(t, worker.port);
  const arrived = once(old.server, 'request');
  silent.send('GET /silent HTTP/1.1\r\nHost: a\r\n\r\n');
  begun.send('GET /begun HTTP/1.1\r\nHost: a\r\n\r\n');
  await arrived;
  await begun.until(/begun$/);
  await worker.switchTo(fresh.target);
  assert.equal(worker.runningOn(old.target).inFlight, 2);
  const cut = worker.message('stats');
  worker.send({ type: 'cut', id: old.target.id });
  assert.deepEqual(worker.runningOn(old.target, (await cut).stats), { inFlight: 0, upgraded: 0 });
  assert.match(await silent.until(/drain_timeout/), /^HTTP\/1\.1 504 /);
  assert.match(await begun.all(), /begun$/);
  const { errors } = await worker.statsWhen(({ requests }) => requests === 2);
  assert.deepEqual(errors, { drain_timeout: 2 }, 'neither of the clients went away');
});
