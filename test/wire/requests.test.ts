import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { RawClient, TestWorker } from '../proxy/support/worker.ts';
import { Recorder } from './support/recorder.ts';

let worker: TestWorker;
let recorder: Recorder;
before(async () => {
  recorder = await Recorder.start(null);
  worker = await TestWorker.start(null, { route: { active: recorder.upstream.target } });
});
afterEach(() => recorder.clear());
after(async () => {
  await worker.stop();
  await recorder.upstream.stop();
});

/** What an attacker wants the application to take for a request of its own. */
const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n';

/** The server must have survived, and no connection to the application may be poisoned. */
async function stillAnswers(t: Parameters<typeof RawClient.connect>[0]): Promise<void> {
  recorder.clear();
  for (let i = 0; i < 2; i++) {
    const client = await RawClient.connect(t, worker.port);
    client.send('GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    assert.match(await client.all(), /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nok$/);
  }
  assert.deepEqual(
    recorder.requests.map(({ requestLine }) => requestLine),
    ['GET /after HTTP/1.1', 'GET /after HTTP/1.1'],
  );
  assert.deepEqual(recorder.garbage, []);
}

/** Bytes that must be refused with one answer, after which the connection is closed; nothing reaches the application. */
function refused(name: string, bytes: string, status = 400): void {
  test(name, async (t) => {
    const client = await RawClient.connect(t, worker.port);
    client.send(bytes);
    const text = await client.all();
    assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} `), JSON.stringify(text.slice(0, 300)));
    assert.match(text, /\r\nConnection: close\r\n/);
    assert.equal(text.match(/HTTP\/1\.1 \d\d\d /g)?.length, 1, 'one answer, and no more');
    assert.deepEqual(recorder.requests, []);
    assert.deepEqual(recorder.garbage, []);
    await stillAnswers(t);
  });
}

interface Expected {
  requestLine: string;
  fields?: string[];
  body?: string;
}

/** Bytes that are valid: the application must see exactly these requests, written anew. */
function accepted(name: string, bytes: string, ...expected: Expected[]): void {
  test(name, async (t) => {
    const client = await RawClient.connect(t, worker.port);
    client.send(bytes);
    await client.until(new RegExp(`(?:HTTP/1\\.1 200 [^]*?ok){${expected.length}}`));
    client.socket.destroy();
    assert.deepEqual(
      recorder.requests.map(({ requestLine, fields, body }) => ({ requestLine, fields, body })),
      expected.map(({ requestLine, fields, body }) => ({
        requestLine,
        fields: fields ?? ['host: a'],
        body: body ?? '',
      })),
    );
    assert.deepEqual(recorder.garbage, []);
    await stillAnswers(t);
  });
}

function post(fields: string, body: string): string {
  return `POST /x HTTP/1.1\r\nHost: a\r\n${fields}\r\n\r\n${body}`;
}

function get(fields: string): string {
  return `GET / HTTP/1.1\r\n${fields}\r\n\r\n`;
}

describe('two lengths (CL.TE, TE.CL, CL.CL)', () => {
  const chunked = `0\r\n\r\n${SMUGGLED}`;
  refused('CL.TE', post(`Content-Length: ${chunked.length}\r\nTransfer-Encoding: chunked`, chunked));
  refused('TE.CL', post('Transfer-Encoding: chunked\r\nContent-Length: 4', `5c\r\n${SMUGGLED}\r\n0\r\n\r\n`));
  refused('TE.0', post('Transfer-Encoding: chunked\r\nContent-Length: 0', chunked));
  refused('CL.CL', post('Content-Length: 0\r\nContent-Length: 36', SMUGGLED));
  refused('CL.CL, equal', post('Content-Length: 2\r\nContent-Length: 2', 'ab'));
  refused('CL list', post('Content-Length: 2, 2', 'ab'));
  refused('CL list, unequal', post('Content-Length: 0, 36', SMUGGLED));
  refused('TE.TE', post('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity', chunked));
  refused('TE.TE, equal', post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked', chunked));
  refused('TE with HTTP/1.0', `POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${chunked}`);
  refused('TE with HTTP/1.0 kept alive', `POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n${chunked}`);
}); // prettier-ignore

describe('a length that parsers read differently', () => {
  for (const length of [
    ...['', ' ', '+5', '-5', '5 5', '5,', ',5', '0x5', '5h', '5.0', '5e0', '"5"', "'5'", '5;', '5\x0b', '\x0b5', '5\x00', '٥'],
    ...['99999999999999999999', '18446744073709551621', '4294967301 ', '1_0', 'five', '5\t5', '0b101', '5\x85', '5\xa0'],
  ]) {
    // A length of 4294967301 alone is a valid one, only too large.
    const status = length === '4294967301 ' ? 413 : 400;
    refused(`Content-Length: ${JSON.stringify(length)}`, post(`Content-Length: ${length}`, `hello${SMUGGLED}`), status);
  }
  refused('a space before the colon', post('Content-Length : 5', `hello${SMUGGLED}`));
  refused('a tab before the colon', post('Content-Length\t: 5', `hello${SMUGGLED}`));
  refused('a control character in the name', post('Content-Length\x01: 5', `hello${SMUGGLED}`));
  refused('NUL in the name', post('Content-\x00Length: 5', `hello${SMUGGLED}`));
  accepted('leading zeros are written anew', post('Content-Length: 0000005', 'hello'), {
    requestLine: 'POST /x HTTP/1.1',
    fields: ['host: a', 'content-length: 5'],
    body: 'hello',
  });
  accepted('spaces around a length are nothing', post('Content-Length: \t 5 \t', 'hello'), {
    requestLine: 'POST /x HTTP/1.1',
    fields: ['host: a', 'content-length: 5'],
    body: 'hello',
  });
}); // prettier-ignore

describe('a transfer coding that parsers read differently', () => {
  for (const coding of [
    ...['xchunked', 'chunked, identity', 'identity, chunked', 'identity', 'gzip', 'gzip, chunked', 'chunked;q=1', '"chunked"'],
    ...['chunked,', ',chunked', 'chunked chunked', 'chunked\x0b', '\x0bchunked', '\x00chunked', 'chunked\x00', '', 'chunk', 'CHUNKED, CHUNKED'],
    ...['x\tchunked', '\xa0chunked', 'chunked\x85', 'cow', 'chun\x00ked', '[chunked]', 'chunked\x7f'],
  ]) {
    const body = `0\r\n\r\n${SMUGGLED}`;
    refused(`Transfer-Encoding: ${JSON.stringify(coding)}`, post(`Transfer-Encoding: ${coding}`, body));
    refused(
      `Transfer-Encoding: ${JSON.stringify(coding)} beside a length`,
      post(`Content-Length: ${body.length}\r\nTransfer-Encoding: ${coding}`, body),
    );
  }
  for (const line of [
    ...['Transfer-Encoding : chunked', 'Transfer-Encoding\t: chunked', ' Transfer-Encoding: chunked', '\tTransfer-Encoding: chunked'],
    ...['X: y\nTransfer-Encoding: chunked', 'X: y\rTransfer-Encoding: chunked', 'Transfer-Encoding:\n chunked', 'Transfer-Encoding:\r\n chunked'],
    ...['Transfer-Encoding\x00: chunked', '\x0bTransfer-Encoding: chunked', 'Transfer\xadEncoding: chunked', 'Transfer-Encoding\r: chunked'],
    ...['Transfer-Encoding', 'Transfer-Encoding chunked', 'Foo: bar\r\n\rTransfer-Encoding: chunked', 'Transfer Encoding: chunked'],
  ]) {
    refused(JSON.stringify(line), post(`Content-Length: 5\r\n${line}`, `0\r\n\r\n${SMUGGLED}`));
  }
  accepted('the name of the coding has no case', post('Transfer-Encoding: cHuNkEd', '5\r\nhello\r\n0\r\n\r\n'), {
    requestLine: 'POST /x HTTP/1.1',
    fields: ['host: a', 'content-length: 5'],
    body: 'hello',
  });
  accepted('Transfer_Encoding is no Transfer-Encoding and is not passed on', post('Transfer_Encoding: chunked\r\nContent-Length: 5', 'hello'), {
    requestLine: 'POST /x HTTP/1.1',
    fields: ['host: a', 'content-length: 5'],
    body: 'hello',
  });
}); // prettier-ignore

describe('chunks that parsers read differently', () => {
  const bodies: Record<string, string> = {
    'a bare line feed after the size': '5\nhello\r\n0\r\n\r\n',
    'a bare carriage return after the size': '5\rhello\r\n0\r\n\r\n',
    'a bare line feed after the data': '5\r\nhello\n0\r\n\r\n',
    'no end of line after the data': '5\r\nhello0\r\n\r\n',
    'other bytes after the data': '5\r\nhelloXX0\r\n\r\n',
    'data longer than its size': '4\r\nhello\r\n0\r\n\r\n',
    'a size with 0x': '0x5\r\nhello\r\n0\r\n\r\n',
    'a size with a sign': '+5\r\nhello\r\n0\r\n\r\n',
    'a negative size': '-1\r\nhello\r\n0\r\n\r\n',
    'a size with an underscore': '0_5\r\nhello\r\n0\r\n\r\n',
    'a size with a space before it': ' 5\r\nhello\r\n0\r\n\r\n',
    'a size with a space after it': '5 \r\nhello\r\n0\r\n\r\n',
    'a size with a tab after it': '5\t\r\nhello\r\n0\r\n\r\n',
    'a size with NUL after it': '5\x00\r\nhello\r\n0\r\n\r\n',
    'a size above 64 bits': '10000000000000005\r\nhello\r\n0\r\n\r\n',
    'a size that is no number': 'five\r\nhello\r\n0\r\n\r\n',
    'an empty size': '\r\nhello\r\n0\r\n\r\n',
    'an extension with a bare line feed (TERM.EXT)': `5;\nxx\r\nhello\r\n0\r\n\r\n${SMUGGLED}`,
    'an extension with a bare carriage return': '5;a\rb\r\nhello\r\n0\r\n\r\n',
    'an extension with a control character': '5;a\x01\r\nhello\r\n0\r\n\r\n',
    'an extension without an end': `5;${'a'.repeat(2_000)}`,
    'an extension without a name': '5;\r\nhello\r\n0\r\n\r\n',
    'an extension after a space': '5 ;a=b\r\nhello\r\n0\r\n\r\n',
    'an extension in open quotes': '5;a="b\r\nhello\r\n0\r\n\r\n',
    'an extension without a semicolon': '5 a=b\r\nhello\r\n0\r\n\r\n',
    'a size without an end': '5'.repeat(2_000),
    'a last chunk with a bare line feed': '5\r\nhello\r\n0\n\r\n',
    'trailers that end with a bare line feed': '5\r\nhello\r\n0\r\n\n',
    'a trailer with a space before the colon': '0\r\nX : y\r\n\r\n',
    'a trailer that is folded': '0\r\nX: y\r\n z\r\n\r\n',
    'a trailer without a colon': '0\r\nGET /smuggled HTTP/1.1\r\n\r\n',
    'a trailer with a bare line feed': '0\r\nX: y\nZ: a\r\n\r\n',
    'trailers without an end': `0\r\n${'X: y\r\n'.repeat(200)}`,
    'a trailer without an end': `0\r\nX: ${'y'.repeat(20_000)}`,
  };
  for (const [name, body] of Object.entries(bodies)) {
    refused(name, post('Transfer-Encoding: chunked', body));
  }
  const one = { requestLine: 'POST /x HTTP/1.1', fields: ['host: a', 'content-length: 5'], body: 'hello' };
  const body = (chunks: string) => post('Transfer-Encoding: chunked', chunks);
  accepted('extensions are dropped', body('5;a;b=c;d="e;f\\"g";h\r\nhello\r\n0;z\r\n\r\n'), one);
  accepted(
    'trailers are dropped, forbidden ones too',
    body('5\r\nhello\r\n0\r\nContent-Length: 9\r\nX: y\r\n\r\n'),
    one,
  );
  accepted('sizes may have capitals and zeros in front', body('00005\r\nhello\r\n000\r\n\r\n'), one);
  accepted('many chunks are one body', body('1\r\nh\r\n4\r\nello\r\n0\r\n\r\n'), one);
  accepted('what follows the last chunk is the next request', body(`5\r\nhello\r\n0\r\n\r\n${SMUGGLED}`), one, {
    requestLine: 'GET /smuggled HTTP/1.1',
  });
});

describe('field lines', () => {
  const lines: Record<string, string> = {
    'obs-fold': 'X: a\r\n b',
    'obs-fold with a tab': 'X: a\r\n\tb',
    'a first line that begins with a space': ' X: a',
    'whitespace before the colon': 'X : a',
    'no colon': 'X',
    'no name': ': a',
    'a bare line feed': 'X: a\nY: b',
    'a bare carriage return': 'X: a\rY: b',
    'a bare carriage return at the end': 'X: a\r',
    'NUL in a value': 'X: a\x00b',
    'a control character in a value': 'X: a\x08b',
    'DEL in a value': 'X: a\x7fb',
    'a vertical tab in a value': 'X: a\x0bb',
    'a form feed in a value': 'X: a\x0cb',
    'a parenthesis in a name': 'X(): a',
    'a slash in a name': 'X/Y: a',
    'a quote in a name': 'X"Y": a',
    'obs-text in a name': 'X\xe9: a',
    'a name in braces': '{X}: a',
  };
  for (const [name, line] of Object.entries(lines)) refused(name, get(`Host: a\r\n${line}\r\nZ: y`));
  accepted('values keep tabs, spaces and obs-text inside', get('Host: a\r\nX:  a \tb\xe9 \t'), {
    requestLine: 'GET / HTTP/1.1',
    fields: ['host: a', 'x: a \tb\xe9'],
  });
  accepted('empty values are values', get('Host: a\r\nX:\r\nY: '), {
    requestLine: 'GET / HTTP/1.1',
    fields: ['host: a', 'x: ', 'y: '],
  });
  accepted('names may have any token character', get("Host: a\r\n!#$%&'*+-.^_`|~0aZ: y"), {
    requestLine: 'GET / HTTP/1.1',
    fields: ['host: a', "!#$%&'*+-.^_`|~0az: y"],
  });
});

describe('hosts', () => {
  const hosts: Record<string, string> = {
    'no Host': 'X: y',
    'two Hosts': 'Host: a\r\nHost: b',
    'two equal Hosts': 'Host: a\r\nHost: a',
    'an empty Host': 'Host: ',
    'a Host with a list': 'Host: a, b',
    'a Host with a path': 'Host: a/b',
    'a Host with a query': 'Host: a?b',
    'a Host with user information': 'Host: a@b',
    'a Host with a space': 'Host: a b',
    'a Host with a port that is no number': 'Host: a:b',
    'a Host with a port out of range': 'Host: a:65536',
    'a Host with two ports': 'Host: a:1:2',
    'a Host with an open bracket': 'Host: [::1',
    'a Host with colons in brackets': 'Host: [:::::]',
    'a Host with an IPv4 address in brackets': 'Host: [1.2.3.4]',
    'a Host with a zone': 'Host: [fe80::1%eth0]',
    'a Host with a quote': 'Host: a"b',
    'a Host with obs-text': 'Host: a\xe9',
    'a Host with a space before the colon': 'Host : a',
    'a folded Host': 'Host:\r\n a',
  };
  for (const [name, host] of Object.entries(hosts)) refused(name, get(host));
  for (const host of [
    'a',
    'A.example.',
    '127.0.0.1:8080',
    '[::1]',
    '[2001:db8::1]:443',
    'under_score.example',
    'a:0',
  ]) {
    accepted(`Host: ${host}`, get(`Host: ${host}`), { requestLine: 'GET / HTTP/1.1', fields: [`host: ${host}`] });
  }
});

describe('request lines', () => {
  const rest = '\r\nHost: a\r\n\r\n';
  const lines: Record<string, string> = {
    'HTTP/0.9': 'GET /',
    'no target': 'GET HTTP/1.1',
    'two spaces': 'GET  / HTTP/1.1',
    'two spaces before the version': 'GET /  HTTP/1.1',
    'a tab': 'GET\t/ HTTP/1.1',
    'a tab before the version': 'GET /\tHTTP/1.1',
    'a space in front': ' GET / HTTP/1.1',
    'a space at the end': 'GET / HTTP/1.1 ',
    'a space in the target': 'GET /a b HTTP/1.1',
    'a version in lower case': 'GET / http/1.1',
    'a version of two digits': 'GET / HTTP/1.10',
    'HTTP/1.2': 'GET / HTTP/1.2',
    'HTTP/2.0': 'GET / HTTP/2.0',
    'HTTP/1': 'GET / HTTP/1',
    'a version of zero': 'GET / HTTP/0.9',
    'no version': 'GET / ',
    'another protocol': 'GET / ICY/1.1',
    'a method with a control character': 'G\x01T / HTTP/1.1',
    'a method with a colon': 'GET: / HTTP/1.1',
    'a method in quotes': '"GET" / HTTP/1.1',
    'an empty method': ' / HTTP/1.1',
    'obs-text in the target': 'GET /\xe9 HTTP/1.1',
    'NUL in the target': 'GET /\x00 HTTP/1.1',
    'a control character in the target': 'GET /\x1f HTTP/1.1',
    'DEL in the target': 'GET /\x7f HTTP/1.1',
    'a fragment': 'GET /a#b HTTP/1.1',
    'a target without a slash': 'GET a HTTP/1.1',
    'an asterisk with GET': 'GET * HTTP/1.1',
    'authority-form with GET': 'GET a:80 HTTP/1.1',
    'a bare carriage return': 'GET /\r HTTP/1.1',
    'another scheme': 'GET ftp://a/ HTTP/1.1',
    'absolute-form for another host': 'GET http://b/ HTTP/1.1',
    'absolute-form with user information': 'GET http://u@a/ HTTP/1.1',
    'absolute-form for another port': 'GET http://a:81/ HTTP/1.1',
    'absolute-form without a host': 'GET http:///x HTTP/1.1',
    'absolute-form with a backslash': 'GET http://a\\@b/ HTTP/1.1',
    'the preface of HTTP/2': 'PRI * HTTP/2.0',
  };
  for (const [name, line] of Object.entries(lines)) refused(name, `${line}${rest}`);
  refused('bare line feeds only', 'GET / HTTP/1.1\nHost: a\n\n');
  refused('a bare line feed after the request line', 'GET / HTTP/1.1\nHost: a\r\n\r\n');
  refused('a TLS handshake', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03');
  refused('an old SSL handshake', '\x80\x2e\x01\x00\x02\x00\x15');
  refused('two empty lines in front', `\r\n\r\nGET / HTTP/1.1${rest}`);
  refused('a line feed in front', `\nGET / HTTP/1.1${rest}`);

  accepted('one empty line in front', `\r\nGET / HTTP/1.1${rest}`, { requestLine: 'GET / HTTP/1.1' });
  accepted('absolute-form becomes origin-form', `GET http://a/x?y HTTP/1.1${rest}`, {
    requestLine: 'GET /x?y HTTP/1.1',
  });
  accepted('absolute-form with the default port', `GET HTTP://A:80 HTTP/1.1${rest}`, { requestLine: 'GET / HTTP/1.1' });
  accepted('absolute-form of HTTP/1.0 names the host', 'GET http://b:81/x HTTP/1.0\r\n\r\n', {
    requestLine: 'GET /x HTTP/1.1',
    fields: ['host: b:81'],
  });
  refused('absolute-form of HTTP/1.0 without a host', 'GET http:///x HTTP/1.0\r\n\r\n');
  accepted('absolute-form without a path', `GET http://a?q HTTP/1.1${rest}`, { requestLine: 'GET /?q HTTP/1.1' });
  accepted('a target is not interpreted', `GET /a/../b//c;d?e=%00&f|g HTTP/1.1${rest}`, {
    requestLine: 'GET /a/../b//c;d?e=%00&f|g HTTP/1.1',
  });
  accepted('any method that is a token', `M-SEARCH! / HTTP/1.1${rest}`, { requestLine: 'M-SEARCH! / HTTP/1.1' });
  accepted('a method has a case', `get / HTTP/1.1${rest}`, { requestLine: 'get / HTTP/1.1' });
});

describe('sizes', () => {
  refused('a target over 8 KiB', get('Host: a').replace(' / ', ` /${'a'.repeat(8_192)} `), 414);
  refused('a target without an end', `GET /${'a'.repeat(20_000)}`, 414);
  refused('a method without an end', 'A'.repeat(20_000), 414);
  refused('headers over 16 KiB', get(`Host: a\r\nX: ${'y'.repeat(16_384)}`), 431);
  refused('headers without an end', `GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(20_000)}`, 431);
  refused('more than 100 fields', get(`Host: a\r\n${'X: y\r\n'.repeat(100)}Z: y`), 431);
  accepted('a target of 8 KiB', get('Host: a').replace(' / ', ` /${'a'.repeat(8_191)} `), {
    requestLine: `GET /${'a'.repeat(8_191)} HTTP/1.1`,
  });
  accepted('100 fields', get(`Host: a\r\n${'X: y\r\n'.repeat(98)}Z: y`), {
    requestLine: 'GET / HTTP/1.1',
    fields: ['host: a', ...Array<string>(98).fill('x: y'), 'z: y'],
  });
});

describe('requests in a row', () => {
  test('what is wrong with the second one does not take the answer from the first', async (t) => {
    const client = await RawClient.connect(t, worker.port);
    client.send(`${get('Host: a')}GET / HTTP/1.1\r\nHost : a\r\n\r\n${SMUGGLED}`);
    assert.match(await client.all(), /^HTTP\/1\.1 200 OK\r\n[^]*ok(?=HTTP)HTTP\/1\.1 400 /);
    assert.deepEqual(
      recorder.requests.map(({ requestLine }) => requestLine),
      ['GET / HTTP/1.1'],
    );
    await stillAnswers(t);
  });

  test('a body with GET (CL.0) is never left for the next request on the connection to the container', async (t) => {
    const client = await RawClient.connect(t, worker.port);
    client.send(
      `GET /cl0 HTTP/1.1\r\nHost: a\r\nContent-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}${get('Host: a')}`,
    );
    await client.until(/(?:HTTP\/1\.1 200 [^]*?ok){2}/);
    const [first, second] = recorder.requests;
    assert.deepEqual([first?.requestLine, first?.body], ['GET /cl0 HTTP/1.1', SMUGGLED]);
    assert.equal(second?.requestLine, 'GET / HTTP/1.1');
    assert.notEqual(first?.connection, second?.connection, 'an application that ignores the body would read it next');
    await stillAnswers(t);
  });

  test('after Connection: close nothing more is read', async (t) => {
    const client = await RawClient.connect(t, worker.port);
    client.send(`GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n${SMUGGLED}`);
    assert.equal((await client.all()).match(/HTTP\/1\.1 200/g)?.length, 1);
    assert.equal(recorder.requests.length, 1);
    await stillAnswers(t);
  });

  test('a request is the same however its bytes are cut', async (t) => {
    const bytes = post('Transfer-Encoding: chunked', '5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n');
    const expected = { requestLine: 'POST /x HTTP/1.1', fields: ['host: a', 'content-length: 5'], body: 'hello' };
    for (let cut = 1; cut < bytes.length; cut++) {
      const client = await RawClient.connect(t, worker.port);
      client.send(bytes.slice(0, cut));
      await new Promise((resolve) => setImmediate(resolve));
      client.send(bytes.slice(cut));
      await client.until(/ok$/);
      client.socket.destroy();
    }
    for (const { requestLine, fields, body } of recorder.requests) {
      assert.deepEqual({ requestLine, fields, body }, expected);
    }
    assert.equal(recorder.requests.length, bytes.length - 1);
  });

  test('a burst of pipelined requests is answered one by one', async (t) => {
    const client = await RawClient.connect(t, worker.port);
    client.send(`${get('Host: a').repeat(2_999)}${get('Host: a\r\nConnection: close')}`);
    assert.equal((await client.all()).match(/HTTP\/1\.1 200 OK\r\n/g)?.length, 3_000);
    assert.equal(recorder.requests.length, 3_000);
  });
});
