import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import type * as http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { openLog } from '../../src/access-log-file.ts';
import { options } from '../../src/config.ts';
import { DECIDED_BY } from '../../src/deciding-options.ts';
import { PIPE_BUF } from '../../src/proxy/line-writer.ts';
import { until } from '../support/deployments.ts';
import { assertStagesAddUp, type Line, STAGES, startLogged } from './support/access-lines.ts';
import { RawUpstream, Upstream } from './support/upstream.ts';
import { RawClient, TestWorker } from './support/worker.ts';

test('a request is a line with what came, what went out, who answered and where the time went', async (t) => {
  const upstream = await Upstream.start(t, (request, response) => {
    request.resume().on('end', () => response.end('hello'));
  });
  const { worker, lines } = await startLogged(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  const request =
    'POST /a?b=c HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: probe/1\r\nReferer: http://x/y?z\r\n' +
    'Authorization: Bearer s3cret\r\nCookie: session=s3cret\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n';
  client.send(request);
  const answer = await client.until(/hello$/);
  const [line] = await lines(1);
  assert.ok(line);
  assert.equal(line['msg'], 'request');
  assert.match(String(line['time']), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  const { hash, revision, id } = upstream.target;
  const said = { client: '127.0.0.1', scheme: 'http', method: 'POST', host: 'shop.test', target: '/a?b=c' };
  const more = { protocol: 'HTTP/1.1', status: 200, referer: 'http://x/y?z', agent: 'probe/1' };
  const counted = { bytesIn: request.length, bodyIn: 3, bytesOut: answer.length, bodyOut: 5 };
  const container = { hash, revision, container: id.slice(0, 8) };
  for (const [key, value] of Object.entries({ ...said, ...more, ...counted, ...container })) {
    assert.equal(line[key], value, key);
  }
  assert.ok(STAGES.every((stage) => typeof line[stage] === 'number' && line[stage] >= 0));
  assertStagesAddUp(line);
  assert.doesNotMatch(JSON.stringify(line), /s3cret/);
});

test('the container is not blamed for a slow client, nor the client for a slow container', async (t) => {
  const pause = 300;
  const upstream = await Upstream.start(t, (request, response) => {
    request.resume().on('end', () => {
      setTimeout(() => {
        response.write('x');
        setTimeout(() => response.end('y'), pause);
      }, pause);
    });
  });
  const { worker, lines } = await startLogged(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Le');
  await delay(pause);
  client.send('ngth: 2\r\n\r\na');
  await delay(pause);
  client.send('b');
  await client.until(/y\r\n0\r\n\r\n$/);
  const [line] = await lines(1);
  assert.ok(line);
  assert.ok(Number(line['receive']) >= 1.9 * pause, String(line['receive']));
  assert.ok(Number(line['firstByte']) >= 0.9 * pause, String(line['firstByte']));
  assert.ok(Number(line['upstream']) >= 0.9 * pause, String(line['upstream']));
  assertStagesAddUp(line);
  const stats = await worker.statsWhen(({ requests }) => requests === 1);
  const own = (stats.targets[0]?.seconds ?? 0) * 1_000;
  assert.ok(Math.abs(own - Number(line['connect']) - Number(line['firstByte']) - Number(line['upstream'])) < 0.01);
  assert.ok(Math.abs(stats.seconds * 1_000 - Number(line['total'])) < 0.01);
});

test('a failure names its code, the option that decided, and no stage that it never reached', async (t) => {
  const silent = await RawUpstream.start(t, () => {});
  const flags = ['--max-body', '10B', '--response-timeout', '200ms', '--body-timeout', '200ms'];
  const { worker, lines } = await startLogged(t, { route: { active: silent.target }, flags });
  for (const text of [
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nx',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx',
    'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    'nonsense\r\n\r\n',
  ]) {
    const client = await RawClient.connect(t, worker.port);
    client.send(text);
    await client.until(/HTTP.*\r\n\r\n/s);
  }
  const all = await lines(4);
  assert.deepEqual(
    all.map(({ status, error, limit, method }) => [status, error, limit, method]),
    [
      [413, 'body_too_large', '--max-body', 'POST'],
      [408, 'body_timeout', '--body-timeout', 'POST'],
      [504, 'upstream_timeout', '--response-timeout', 'GET'],
      [400, 'bad_request', undefined, undefined],
    ],
  );
  for (const line of all) assertStagesAddUp(line);
  const reached = all.map((line) => STAGES.filter((stage) => stage in line));
  assert.deepEqual(reached[1], ['receive']);
  assert.deepEqual(reached[2], ['receive', 'queue', 'connect', 'firstByte', 'send']);
  assert.equal(all[2]?.['revision'], silent.target.revision);
});

test('options that are named as deciding exist', () => {
  const known = options().map(({ long }) => long);
  assert.deepEqual(
    Object.values(DECIDED_BY).filter((option) => !known.includes(option)),
    [],
  );
});

test('a client that goes away is a line, and so is a tunnel when it ends, with its bytes', async (t) => {
  const held: http.IncomingMessage[] = [];
  const upstream = await Upstream.start(t, (request) => held.push(request));
  upstream.server.on('upgrade', (_request, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n');
    socket.pipe(socket);
  });
  const { worker, lines } = await startLogged(t, { route: { active: upstream.target } });
  const leaver = await RawClient.connect(t, worker.port);
  const arrived = once(upstream.server, 'request');
  leaver.send('GET /gone HTTP/1.1\r\nHost: a\r\n\r\n');
  await arrived;
  leaver.socket.destroy();
  await lines(1);
  const client = await RawClient.connect(t, worker.port);
  client.send('GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n');
  await client.until(/101.*\r\n\r\n/s);
  client.send('12345');
  await client.until(/12345$/);
  await worker.statsWhen(({ statusCodes }) => statusCodes['101'] === 1);
  assert.equal((await lines(1)).length, 1, 'it has not ended yet');
  client.socket.end();
  const [gone, tunnel] = await lines(2);
  assert.deepEqual([gone?.['status'], gone?.['error']], [499, 'client_closed']);
  assert.deepEqual([tunnel?.['target'], tunnel?.['status'], tunnel?.['error']], ['/tunnel', 101, undefined]);
  assert.deepEqual([tunnel?.['bodyIn'], tunnel?.['bodyOut']], [5, 5]);
  assertStagesAddUp(tunnel ?? {});
});

test('whatever a client sends, a line is one JSON text that does nothing to a terminal', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('x'));
  const { worker, lines } = await startLogged(t, { route: { active: upstream.target } });
  const client = await RawClient.connect(t, worker.port);
  const agent = '","status":200}\\ \x9b31m\xff \u0085 {"msg":"request"';
  client.send(`GET /%0a HTTP/1.1\r\nHost: a\r\nUser-Agent: ${agent}\r\n\r\n`);
  await client.until(/x$/);
  client.received = Buffer.alloc(0);
  client.send(`GET /${'q'.repeat(3_000)} HTTP/1.1\r\nHost: a\r\nUser-Agent: ${'"\\'.repeat(1_500)}\r\n\r\n`);
  await client.until(/x$/);
  const [first, second] = await lines(2);
  assert.equal(first?.['agent'], agent);
  assert.deepEqual([first?.['cut'], second?.['cut'], second?.['status']], [undefined, true, 200]);
  assert.ok(Buffer.byteLength(JSON.stringify(second)) < PIPE_BUF);
});

test('without query strings no line holds one', async (t) => {
  const upstream = await Upstream.start(t, (_, response) => response.end('x'));
  const { worker, lines } = await startLogged(t, { route: { active: upstream.target }, logQuery: false });
  const client = await RawClient.connect(t, worker.port);
  client.send('GET /a?token=s3cret HTTP/1.1\r\nHost: a\r\nReferer: http://a/b?token=s3cret#x\r\n\r\n');
  await client.until(/x$/);
  const [line] = await lines(1);
  assert.deepEqual([line?.['target'], line?.['referer']], ['/a', 'http://a/b']);
});

test('a reader that stops holds up no request; what it misses is dropped, counted and told', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'access-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'pipe');
  execFileSync('mkfifo', [path]);
  const fd = openLog(path);
  t.after(() => closeSync(fd));
  const upstream = await Upstream.start(t, (_, response) => response.end('x'));
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, accessLog: fd });
  const client = await RawClient.connect(t, worker.port);
  const request = `GET /${'p'.repeat(2_000)} HTTP/1.1\r\nHost: a\r\n\r\n`;
  const BURST = 200;
  let sent = 0;
  while ((worker.stats?.accessLog.lost ?? 0) === 0 && sent < 5_000) {
    client.received = Buffer.alloc(0);
    client.send(request.repeat(BURST));
    sent += BURST;
    await until(
      async () => Promise.resolve(client.text.split('HTTP/1.1 200').length - 1),
      (answered) => answered === BURST,
    );
  }
  const stuck = await worker.statsWhen(({ requests, accessLog }) => requests === sent && accessLog.lost > 0);
  // Now it reads on.
  const reader = openSync(path, 'r');
  t.after(() => closeSync(reader));
  let text = '';
  const buffer = Buffer.alloc(65_536);
  const take = () => {
    const bytes = readSync(reader, buffer, 0, buffer.length, null);
    text += buffer.toString('latin1', 0, bytes);
  };
  const all = await until(
    async () => {
      take();
      // A line more, so that there is always something to read.
      client.send('GET /again HTTP/1.1\r\nHost: a\r\n\r\n');
      sent++;
      return Promise.resolve(text.split('\n').slice(0, -1));
    },
    (lines) => lines.some((line) => line.includes('lines were lost')),
  );
  const parsed = all.map((line) => JSON.parse(line) as Line);
  const lost = parsed
    .filter(({ msg }) => msg === 'access log lines were lost')
    .reduce((sum, each) => sum + Number(each['lines']), 0);
  // Of the later ones a few may have been lost too, before there was room again.
  const later = await worker.statsWhen(({ accessLog }) => accessLog.lost === lost);
  assert.ok(later.accessLog.lost >= stuck.accessLog.lost);
  t.diagnostic(`${stuck.requests} requests answered while nobody read, ${lost} lines lost`);
  const written = parsed.filter(({ target }) => target === request.split(' ')[1]).length;
  assert.equal(written, stuck.requests - stuck.accessLog.lost);
});

test('a disk that is full costs lines, never requests, and is told once', async (t) => {
  const fd = openSync('/dev/full', 'a');
  t.after(() => closeSync(fd));
  const upstream = await Upstream.start(t, (_, response) => response.end('x'));
  const worker = await TestWorker.start(t, { route: { active: upstream.target }, accessLog: fd });
  const client = await RawClient.connect(t, worker.port);
  for (let i = 1; i <= 3; i++) {
    client.received = Buffer.alloc(0);
    client.send('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await client.until(/x$/);
    await worker.statsWhen(({ accessLog }) => accessLog.lost === i);
  }
  assert.equal(worker.output.split('the access log can not be written').length - 1, 1);
});
