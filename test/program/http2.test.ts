import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import * as http2 from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import * as tls from 'node:tls';
import { issue, writePair } from '../support/certificates.ts';
import { workshop, type Workshop } from '../support/deployable.ts';
import { deploy, statusOf, untilQuiet } from '../support/deployments.ts';
import { runTool } from '../support/http2-tools.ts';
import { endPrograms, startProgram, type TestProgram } from '../support/program.ts';

const HOST = 'localhost';

interface Served {
  shop: Workshop;
  program: TestProgram;
  /** Of its TLS listener. */
  origin: string;
  port: number;
  certificate: string;
}

/** The test application behind TLS. */
async function serve(t: TestContext, ...more: string[]): Promise<Served> {
  const folder = mkdtempSync(join(tmpdir(), 'wundertest-tls-'));
  t.after(async () => {
    await endPrograms(t);
    rmSync(folder, { recursive: true, force: true });
  });
  const shop = workshop(t);
  const pair = issue({ names: [HOST] });
  const options = ['--runtime', 'process', '--workers', '2', '--tls', '127.0.0.1:0', ...writePair(folder, 'a', pair)];
  const args = [...options, ...more, shop.bucket, shop.prefix, 'shop'];
  const program = await startProgram(t, { args, stateDir: shop.stateDir });
  await deploy(program, shop.config('v1'));
  const ready = program.log.find(({ msg }) => msg === 'ready');
  const port = Number(String(ready?.['tls']).split(':').at(-1));
  return { shop, program, origin: `https://${HOST}:${port}`, port, certificate: join(folder, 'a.crt') };
}

test('curl agrees on HTTP/2 and uploads and downloads by it', async (t) => {
  const { program, origin, certificate } = await serve(t);
  const curl = (...args: string[]) => runTool(t, 'curl', ['-sS', '--fail', '--http2', '--cacert', certificate, ...args]);
  const version = await curl('-o', '/dev/null', '-w', '%{http_version} %{http_code}', `${origin}/`);
  assert.equal(version.toString(), '2 200');
  const old = await curl('--http1.1', '-o', '/dev/null', '-w', '%{http_version} %{http_code}', `${origin}/`);
  assert.equal(old.toString(), '1.1 200');

  const body = randomBytes(5 * 2 ** 20);
  const file = join(certificate, '../body');
  writeFileSync(file, body);
  const { sha256 } = JSON.parse((await curl('--data-binary', `@${file}`, `${origin}/`)).toString()) as { sha256: string };
  assert.equal(sha256, createHash('sha256').update(body).digest('hex'));
  const large = await curl(`${origin}/stream?size=${2 ** 20}&chunks=20`);
  assert.equal(large.length, 20 * 2 ** 20);
  await untilQuiet(program);
}); // prettier-ignore

test('nghttp gets many answers on one connection', async (t) => {
  const { program, origin } = await serve(t);
  const urls = Array.from({ length: 20 }, (_, i) => `${origin}/?n=${i}`);
  const text = (await runTool(t, 'nghttp', ['-nv', '--no-verify-peer', ...urls])).toString();
  assert.equal(text.match(/:status: 200/g)?.length, 20);
  assert.doesNotMatch(text, /RST_STREAM|error_code=(?!NO_ERROR)/);
  await untilQuiet(program);
});

test('h2load loses nothing during a deploy', async (t) => {
  const { shop, program, origin } = await serve(t);
  const before = (await statusOf(program)).Totals.Requests;
  const load = runTool(t, 'h2load', ['-n', '6000', '-c', '6', '-m', '10', `${origin}/`]);
  const hash = shop.config('v2');
  for (const path of ['/launch', '/switch?wait=drained']) {
    const answer = await program.call('POST', path, hash);
    assert.equal(answer.status, 200, answer.text);
  }
  const summary = (await load).toString();
  assert.match(
    summary,
    /requests: 6000 total, 6000 started, 6000 done, 6000 succeeded, 0 failed, 0 errored, 0 timeout/,
  );
  assert.match(summary, /Application protocol: h2/);
  const { Totals } = await untilQuiet(program);
  assert.equal(Totals.Requests - before, 6_000);
  assert.deepEqual(Object.keys(Totals.StatusCodes), ['200']);
});

test('a reload asks HTTP/2 clients to go, and no request of theirs fails', async (t) => {
  const { program, origin, certificate } = await serve(t);
  const ca = [readFileSync(certificate)];
  let connections = 0;
  let answers = 0;
  let session: http2.ClientHttp2Session | null = null;
  let reloaded = false;
  for (let i = 0; i < 2_000 && !(reloaded && connections > 1 && answers > 300); i++) {
    if (session === null || session.closed || session.destroyed) {
      connections++;
      session = http2.connect(origin, { ca });
      t.after(
        (
          (each) => () =>
            each.destroy()
        )(session),
      );
      await once(session, 'connect');
    }
    const stream: http2.ClientHttp2Stream = session.request({ ':path': '/' });
    stream.resume();
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
    assert.equal(headers[':status'], 200);
    await once(stream, 'close');
    answers++;
    if (i === 100) {
      program.signal('SIGHUP');
      reloaded = true;
    }
  }
  assert.ok(connections > 1, 'the old worker has asked the client to go');
  assert.ok(answers > 300);
});

test('a WebSocket goes over HTTP/1 on the port of HTTP/2', async (t) => {
  const { program, port, certificate, origin } = await serve(t);
  const ca = [readFileSync(certificate)];
  const session = http2.connect(origin, { ca });
  t.after(() => session.destroy());
  await once(session, 'connect');
  const socket = tls.connect({ port, host: '127.0.0.1', servername: HOST, ca, ALPNProtocols: ['http/1.1'] });
  t.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  socket.write(
    `GET /ws HTTP/1.1\r\nHost: ${HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  );
  let text = '';
  while (!text.includes('\r\n\r\n')) text += String(((await once(socket, 'data')) as [Buffer])[0]);
  assert.match(text, /^HTTP\/1\.1 101 /);
  const stream = session.request({ ':path': '/' });
  stream.resume();
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
  assert.equal(headers[':status'], 200);
  socket.destroy();
  session.destroy();
  await untilQuiet(program);
});
