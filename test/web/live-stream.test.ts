import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { type Readable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { LiveStreams } from '../../src/web/live-stream.ts';
import { raw } from '../../src/web/html.ts';
import { SECTIONS, type Sections } from '../../src/web/sections.ts';
import { serve } from './support.ts';

const sections = (text: string): Sections =>
  Object.fromEntries(SECTIONS.map((name) => [name, raw(name === 'summary' ? text : name)])) as Sections;

/** The clock of the streams stands still until a test moves it. */
function stopClock(t: TestContext): (seconds: number) => void {
  t.mock.timers.enable({ apis: ['setInterval'] });
  return (seconds) => {
    for (let second = 0; second < seconds; second++) t.mock.timers.tick(1_000);
  };
}

/** What a stream holds now, as events. */
function read(stream: Readable): { event: string; data: string }[] {
  const text = String((stream.read() as Buffer | null) ?? '');
  return Array.from(text.matchAll(/event: (\w+)\ndata: ?(.*)\n\n/g), ([, event = '', data = '']) => ({ event, data }));
}

test('ten pages cost one rendering a second, none when nobody looks', async (t) => {
  const pass = stopClock(t);
  let rendered = 0;
  const streams = new LiveStreams(() => sections(String(++rendered)));
  const open = Array.from({ length: 10 }, () => streams.open(() => true));
  const first = rendered;
  for (const stream of open) assert.equal(read(stream).length, 1);
  pass(5);
  assert.equal(rendered - first, 5);
  const closed = open.map(async (stream) => once(stream, 'close'));
  for (const stream of open) stream.destroy();
  await Promise.all(closed);
  pass(5);
  assert.equal(rendered - first, 5);
  assert.equal(streams.size, 0);
});

test('a page is sent everything first, then what has changed, else a sign of life', (t) => {
  const pass = stopClock(t);
  let now = sections('one');
  const stream = new LiveStreams(() => now).open(() => true);
  t.after(() => stream.destroy());
  const [first] = read(stream);
  assert.deepEqual(Object.keys(JSON.parse(first?.data ?? '') as object), [...SECTIONS]);
  pass(1);
  read(stream);
  pass(1);
  assert.deepEqual(read(stream), [{ event: 'tick', data: '' }]);
  now = sections('two');
  pass(1);
  assert.deepEqual(read(stream), [{ event: 'sections', data: '{"summary":"two"}' }]);
});

test('a page that does not read is sent nothing more until it does, then everything; at last it is let go', async (t) => {
  const pass = stopClock(t);
  let count = 0;
  const streams = new LiveStreams(() => sections(`number ${++count}`));
  const lame = streams.open(() => true);
  pass(8);
  const held = lame.readableLength;
  pass(2);
  assert.equal(lame.readableLength, held);
  read(lame);
  pass(1);
  const [after] = read(lame);
  assert.deepEqual(Object.keys(JSON.parse(after?.data ?? '') as object), [...SECTIONS]);
  const closed = once(lame, 'close');
  pass(20);
  await closed;
  assert.equal(streams.size, 0);
});

test('a stream ends when its reader is no longer let in', async (t) => {
  const pass = stopClock(t);
  let admitted = true;
  const stream = new LiveStreams(() => sections('')).open(() => admitted);
  pass(1);
  assert.equal(stream.destroyed, false);
  admitted = false;
  const closed = once(stream, 'close');
  pass(1);
  await closed;
});

test('there are not more streams than 64, and one that ends makes room', async () => {
  const streams = new LiveStreams(() => sections(''));
  const open = Array.from({ length: 64 }, () => streams.open(() => true));
  assert.throws(() => streams.open(() => true), { code: 'too_many_streams' });
  open[0]?.destroy();
  await once(open[0] as Readable, 'close');
  open.push(streams.open(() => true));
  await Promise.all(
    open.slice(1).map(async (stream) => {
      stream.destroy();
      await once(stream, 'close');
    }),
  );
  assert.equal(streams.size, 0);
});

test('over a real connection: a client that goes away, and one that never reads, leave nothing behind', async (t) => {
  const streams = new LiveStreams(() => sections('x'.repeat(100_000) + Math.random()));
  let gone = Promise.withResolvers<void>();
  const address = await serve(t, (context) => {
    context.type = 'text/event-stream';
    const stream = streams.open(() => true);
    stream.on('close', () => gone.resolve());
    context.body = stream;
  });
  const [host, port] = address.split(':');
  const asked = request({ host, port: Number(port), path: '/' });
  asked.on('error', () => {});
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.on('error', () => {});
  assert.match(String(((await once(response, 'data')) as [Buffer])[0]), /^retry: 2000\n\nevent: sections\n/);
  asked.destroy();
  await gone.promise;
  assert.equal(streams.size, 0);

  gone = Promise.withResolvers<void>();
  const silent = connect(Number(port), host);
  t.after(() => silent.destroy());
  silent.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(silent, 'readable');
  silent.destroy();
  await gone.promise;
  assert.equal(streams.size, 0);
});
