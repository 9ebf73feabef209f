import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test, type TestContext } from 'node:test';
import { testMaterial } from '../proxy/support/transport.ts';
import { TestWorker } from '../proxy/support/worker.ts';
import {
  block,
  END_HEADERS,
  END_STREAM,
  type FieldList,
  frame,
  H2Client,
  headers,
  request,
} from './support/h2-frames.ts';
import { Recorder } from './support/recorder.ts';

let worker: TestWorker;
let recorder: Recorder;
before(async () => {
  recorder = await Recorder.start(null);
  worker = await TestWorker.start(null, { route: { active: recorder.upstream.target }, tls: testMaterial() });
});
afterEach(() => recorder.clear());
after(async () => {
  await worker.stop();
  await recorder.upstream.stop();
});

/** The server must have survived, and no connection to the application may be poisoned. */
async function stillAnswers(t: TestContext): Promise<void> {
  recorder.clear();
  const client = await H2Client.connect(t, worker);
  for (const streamId of [1, 3]) {
    client.request(streamId, request({ ':path': '/after' }));
    assert.equal(await client.end(streamId), 'ended');
    assert.equal(client.body(streamId).toString(), 'ok');
  }
  assert.deepEqual(
    recorder.requests.map(({ requestLine }) => requestLine),
    ['GET /after HTTP/1.1', 'GET /after HTTP/1.1'],
  );
  assert.deepEqual(recorder.garbage, []);
}

interface Case {
  fields: FieldList;
  /** What follows the fields; without it the stream ends with them. */
  data?: Buffer[];
}

/** A request that must be refused; other streams of the connection go on, and nothing of it reaches the application. */
function refused(name: string, { fields, data }: Case, status = '400'): void {
  test(name, async (t) => {
    const client = await H2Client.connect(t, worker);
    client.request(1, fields, data === undefined ? null : 'open');
    if (data !== undefined) client.send(...data);
    client.request(3, request({ ':path': '/beside' }));
    assert.equal(await client.end(1), 'ended');
    assert.deepEqual(client.statuses(1), [status]);
    assert.match(
      client.body(1).toString(),
      /bad_request|uri_too_long|headers_too_large|expectation_failed|not_allowed/,
    );
    assert.equal(await client.end(3), 'ended');
    assert.deepEqual(
      recorder.requests.map(({ requestLine }) => requestLine),
      ['GET /beside HTTP/1.1'],
    );
    assert.deepEqual(recorder.garbage, []);
    await stillAnswers(t);
  });
}

interface Expected {
  requestLine: string;
  fields?: string[];
  body?: string;
}

/** A request that is valid: the application must see exactly this, written as HTTP/1.1. */
function accepted(name: string, { fields, data }: Case, expected: Expected): void {
  test(name, async (t) => {
    const client = await H2Client.connect(t, worker);
    client.request(1, fields, data === undefined ? null : 'open');
    if (data !== undefined) client.send(...data);
    assert.equal(await client.end(1), 'ended');
    assert.deepEqual(client.statuses(1), ['200']);
    assert.deepEqual(
      recorder.requests.map(({ requestLine, fields, body }) => ({ requestLine, fields, body })),
      [{ requestLine: expected.requestLine, fields: expected.fields ?? ['host: a'], body: expected.body ?? '' }],
    );
    assert.deepEqual(recorder.garbage, []);
    await stillAnswers(t);
  });
}

/** With one more field. */
function field(name: string, value: string): Case {
  return { fields: request({}, [[name, value]]) };
}

describe('values that would become something else in HTTP/1 (request splitting)', () => {
  for (const [name, value] of [
    ['a line', 'x\r\nContent-Length: 0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a field', 'x\r\nTransfer-Encoding: chunked'],
    ['a bare line feed', 'x\ny'],
    ['a bare carriage return', 'x\ry'],
    ['NUL', 'x\x00y'],
    ['a control character', 'x\x08y'],
    ['DEL', 'x\x7fy'],
    ['a space in front', ' x'],
    ['a space at the end', 'x '],
    ['a tab in front', '\tx'],
    ['a tab at the end', 'x\t'],
    ['nothing but a space', ' '],
    ['a line feed at the end', 'x\n'],
    ['a carriage return and a line feed at the end', 'x\r\n'],
  ] as const) {
    refused(`${name} in a value`, field('x', value));
    refused(`${name} in a cookie`, field('cookie', value));
    refused(`${name} in Host`, field('host', value));
    refused(`${name} in :path`, { fields: request({ ':path': `/${value}` }) });
    refused(`${name} in :authority`, { fields: request({ ':authority': `a${value}` }) });
    refused(`${name} in :method`, { fields: request({ ':method': `GET${value}` }) });
    refused(`${name} in :scheme`, { fields: request({ ':scheme': `https${value}` }) });
  }
  accepted('tabs, spaces and obs-text inside of a value stay', field('x', 'a \tb\xe9'), {
    requestLine: 'GET / HTTP/1.1',
    fields: ['host: a', 'x: a \tb\xe9'],
  });
  accepted('an empty value stays', field('x', ''), {
    requestLine: 'GET / HTTP/1.1',
    fields: ['host: a', 'x: '],
  });
});

describe('names that would become something else in HTTP/1', () => {
  for (const name of [
    ...['X', 'content-Length', 'Transfer-Encoding', 'x y', 'x:y', 'x\r\ny', 'x\ny', 'x\x00', ' x', 'x ', '', 'x\xe9', 'x(y)'],
    ...['foo: bar\r\ntransfer-encoding', 'transfer-encoding: chunked\r\nx', 'x"y', 'x/y', 'x,y', 'host ', 'content-length:'],
  ]) {
    refused(JSON.stringify(name), field(name, 'y'));
  }
  accepted('any token in lower case is a name', field("!#$%&'*+-.^_`|~0a", 'y'), {
    requestLine: 'GET / HTTP/1.1',
    fields: ['host: a', "!#$%&'*+-.^_`|~0a: y"],
  });
}); // prettier-ignore

describe('fields that concern an HTTP/1 connection (H2.TE, H2.CL)', () => {
  const smuggled = frame('DATA', END_STREAM, 1, '0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n');
  for (const [name, value] of [
    ['transfer-encoding', 'chunked'],
    ['transfer-encoding', 'identity'],
    ['connection', 'close'],
    ['connection', 'x'],
    ['connection', 'upgrade'],
    ['keep-alive', 'timeout=5'],
    ['proxy-connection', 'keep-alive'],
    ['upgrade', 'websocket'],
    ['upgrade', 'h2c'],
    ['te', 'gzip'],
    ['te', 'trailers, gzip'],
    ['te', 'chunked'],
  ] as const) {
    refused(`${name}: ${value}`, field(name, value));
    refused(`${name}: ${value} with a body`, { ...field(name, value), data: [smuggled] });
  }
  accepted('te: trailers is dropped', field('te', 'trailers'), { requestLine: 'GET / HTTP/1.1' });
  accepted('transfer_encoding is dropped', field('transfer_encoding', 'chunked'), { requestLine: 'GET / HTTP/1.1' });
  accepted('proxy is dropped', field('proxy', 'http://evil/'), { requestLine: 'GET / HTTP/1.1' });
});

describe('a length that does not agree with the body (H2.CL)', () => {
  const post = (lengths: string[], ...parts: string[]): Case => ({
    fields: request(
      { ':method': 'POST' },
      lengths.map((length) => ['content-length', length]),
    ),
    data: parts.map((part, i) => frame('DATA', i === parts.length - 1 ? END_STREAM : 0, 1, part)),
  });
  refused('H2.CL: less is announced than comes', post(['0'], 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n'));
  refused('one byte more than announced', post(['4'], 'hello'));
  refused('one byte less than announced', post(['6'], 'hello'));
  refused('more than announced in the second piece', post(['5'], 'hello', ' '));
  refused('nothing of what is announced', post(['5'], ''));
  refused('nothing of what is announced, without any DATA', { fields: request({}, [['content-length', '5']]) });
  refused('two lengths', post(['5', '5'], 'hello'));
  refused('two different lengths', post(['0', '5'], 'hello'));
  for (const length of ['', '+5', '-5', '5,5', '5, 5', '0x5', '5h', '5.0', '5e0', '"5"', '5;', '٥', '99999999999999999999', '1_0']) {
    refused(`content-length: ${JSON.stringify(length)}`, post([length], 'hello'));
  }
  accepted('leading zeros are written anew', post(['0000005'], 'hello'), {
    requestLine: 'POST / HTTP/1.1',
    fields: ['host: a', 'content-length: 5'],
    body: 'hello',
  });
  accepted('a length of zero without DATA', { fields: request({ ':method': 'POST' }, [['content-length', '0']]) }, {
    requestLine: 'POST / HTTP/1.1',
    fields: ['host: a', 'content-length: 0'],
  });
  accepted('without a length the body gets one', post([], 'hel', 'lo'), {
    requestLine: 'POST / HTTP/1.1',
    fields: ['host: a', 'content-length: 5'],
    body: 'hello',
  });
  accepted('what looks like a chunk or a request in a body is a body', post([], '0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n'), {
    requestLine: 'POST / HTTP/1.1',
    fields: ['host: a', 'content-length: 31'],
    body: '0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n',
  });
}); // prettier-ignore

describe('pseudo-fields', () => {
  for (const missing of [':method', ':scheme', ':path', ':authority']) {
    refused(`no ${missing}`, { fields: request({ [missing]: null }) });
  }
  for (const [name, value] of Object.entries({ ':method': 'GET', ':scheme': 'https', ':path': '/', ':authority': 'a' })) {
    refused(`two of ${name}`, { fields: [[name, value], ...request()] });
    refused(`an empty ${name}`, { fields: request({ [name]: '' }) });
    const others = request({ [name]: null });
    refused(`${name} after a regular field`, { fields: [...others, ['x', 'y'], [name, value]] });
  }
  refused('one that is unknown', { fields: [[':x', 'y'], ...request()] });
  refused('one of responses', { fields: [[':status', '200'], ...request()] });
  refused('one with a capital', { fields: [...request({ ':method': null }), [':Method', 'GET']] });
  refused('nothing but a colon', { fields: [[':', 'y'], ...request()] });
  refused('a WebSocket by extended CONNECT, which is not offered', { fields: [...request({ ':method': 'CONNECT' }), [':protocol', 'websocket']] });
  refused(':protocol without CONNECT', { fields: [...request(), [':protocol', 'websocket']] });
  refused('CONNECT with a scheme and a path', { fields: request({ ':method': 'CONNECT' }) });
  refused('no fields at all', { fields: [] });
  refused('only a host', { fields: [['host', 'a']] });
  for (const path of ['a', 'http://a/', '//'.slice(2), '/a b', '/#x', '/\xe9', '*', '?x', '\\', ' /', '/ HTTP/1.1\r\nX: y']) {
    refused(`:path ${JSON.stringify(path)}`, { fields: request({ ':path': path }) });
  }
  refused(':scheme http on TLS', { fields: request({ ':scheme': 'http' }) });
  refused(':scheme in capitals', { fields: request({ ':scheme': 'HTTPS' }) });
  refused('a scheme like a request line', { fields: request({ ':scheme': 'https://a/x HTTP/1.1\r\n\r\n' }) });
  refused('a method with a space', { fields: request({ ':method': 'GET / HTTP/1.1' }) });
  accepted('two slashes stay', { fields: request({ ':path': '//evil/x' }) }, { requestLine: 'GET //evil/x HTTP/1.1' });
  accepted('any method that is a token', { fields: request({ ':method': 'PURGE' }) }, { requestLine: 'PURGE / HTTP/1.1' });
}); // prettier-ignore

describe('hosts', () => {
  for (const authority of ['a@b', 'u:p@a', 'a/b', 'a?b', 'a b', 'a:b', 'a:65536', 'a:1:2', '[::1', 'a"b', 'a,b', 'a\xe9', ':80']) {
    refused(`:authority ${JSON.stringify(authority)}`, { fields: request({ ':authority': authority }) });
    refused(`Host ${JSON.stringify(authority)}`, { fields: request({ ':authority': null }, [['host', authority]]) });
  }
  refused(':authority and another Host', { fields: request({}, [['host', 'b']]) });
  refused(':authority and a Host with another port', { fields: request({}, [['host', 'a:8443']]) });
  refused(':authority and an empty Host', { fields: request({}, [['host', '']]) });
  refused('two Hosts', { fields: request({ ':authority': null }, [['host', 'a'], ['host', 'a']]) });
  refused('two Hosts beside :authority', { fields: request({}, [['host', 'a'], ['host', 'a']]) });
  accepted(':authority and the same Host', { fields: request({}, [['host', 'A:443']]) }, { requestLine: 'GET / HTTP/1.1' });
  accepted('Host alone', { fields: request({ ':authority': null }, [['host', 'b:1']]) }, { requestLine: 'GET / HTTP/1.1', fields: ['host: b:1'] });
  for (const authority of ['A.example.', '127.0.0.1:8080', '[2001:db8::1]:443', 'under_score.example']) {
    accepted(`:authority ${authority}`, { fields: request({ ':authority': authority }) }, { requestLine: 'GET / HTTP/1.1', fields: [`host: ${authority}`] });
  }
}); // prettier-ignore

describe('fields', () => {
  accepted(
    'cookies that were cut up are joined, others stay as they are',
    {
      fields: request({}, [
        ['cookie', 'a=b'],
        ['x', '1'],
        ['cookie', 'c=d'],
        ['x', '2'],
        ['cookie', 'e=f'],
      ]),
    },
    { requestLine: 'GET / HTTP/1.1', fields: ['host: a', 'cookie: a=b; c=d; e=f', 'x: 1', 'x: 2'] },
  );
  refused('a target that is too long', { fields: request({ ':path': `/${'x'.repeat(8_192)}` }) }, '414');
  refused('a target that is longer than all fields may be', { fields: request({ ':path': `/${'x'.repeat(16_500)}` }) }, '414');
  refused('fields that are too large', field('x', 'y'.repeat(16_300)), '431');
  refused('more fields than allowed', { fields: request({}, Array.from({ length: 101 }, () => ['x', 'y'])) }, '431');
  refused('an expectation that can not be met', field('expect', 'miracles'), '417');
  accepted('the longest target', { fields: request({ ':path': `/${'x'.repeat(8_191)}` }) }, { requestLine: `GET /${'x'.repeat(8_191)} HTTP/1.1` });
}); // prettier-ignore

describe('trailers', () => {
  const post = (...rest: Buffer[]): Case => ({
    fields: request({ ':method': 'POST' }),
    data: [frame('DATA', 0, 1, 'hello'), ...rest],
  });
  const trailers = (fields: FieldList, flags = END_STREAM) => headers(1, fields, flags);
  accepted('they are dropped', post(trailers([['x', 'y'], ['content-length', '9']])), {
    requestLine: 'POST / HTTP/1.1',
    fields: ['host: a', 'content-length: 5'],
    body: 'hello',
  });
  refused('with a pseudo-field', post(trailers([[':path', '/smuggled']])));
  refused('with a capital', post(trailers([['X', 'y']])));
  refused('with a line feed', post(trailers([['x', 'y\nz']])));
  refused('that do not end the stream', post(trailers([['x', 'y']], 0)));
  refused('that are too large', post(trailers([['x', 'y'.repeat(16_400)]])));
}); // prettier-ignore

for (const [method, fields] of [
  ['CONNECT', [[':method', 'CONNECT'], [':authority', 'example.com:443']]],
  ['TRACE', request({ ':method': 'TRACE' })],
] as const) {
  refused(`${method} gets 405`, { fields }, '405');
} // prettier-ignore

test('a stream that ends in its fields while the application is asked gets its answer', async (t) => {
  const client = await H2Client.connect(t, worker);
  client.send(frame('HEADERS', END_STREAM, 1, block(request().slice(0, 2))));
  client.send(frame('CONTINUATION', 0, 1, block(request().slice(2, 3))));
  client.send(frame('CONTINUATION', END_HEADERS, 1, block(request().slice(3))));
  assert.equal(await client.end(1), 'ended');
  assert.deepEqual(client.statuses(1), ['200']);
});
