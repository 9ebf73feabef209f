import assert from 'node:assert/strict';
import { test } from 'node:test';
import { framingOf, parseResponseHead } from '../../src/proxy/http1-response.ts';

const OK = 'HTTP/1.1 200 OK';

for (const [what, lines] of Object.entries({
  'both lengths': [OK, 'Content-Length: 1', 'Transfer-Encoding: chunked'],
  'two lengths': [OK, 'Content-Length: 1', 'Content-Length: 1'],
  'a list of lengths': [OK, 'Content-Length: 1, 1'],
  'a negative length': [OK, 'Content-Length: -1'],
  'an empty length': [OK, 'Content-Length:'],
  'a length that a double can not hold': [OK, 'Content-Length: 9999999999999999'],
  'an unknown coding': [OK, 'Transfer-Encoding: identity'],
  'a coding before chunked': [OK, 'Transfer-Encoding: gzip, chunked'],
  'a coding twice': [OK, 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'],
  'a coding in HTTP/1.0': ['HTTP/1.0 200 OK', 'Transfer-Encoding: chunked'],
  'a name that is no token': [OK, 'A B: 1'],
  'a blank before the colon': [OK, 'A : 1'],
  'no colon': [OK, 'A'],
  'a folded line': [OK, 'A: 1', ' 2'],
  'a control character': [OK, 'A: x\x00y'],
  'a bare carriage return': [OK, 'A: x\ry'],
  'a bare line feed': [OK, 'A: x\nB: y'],
  'another protocol': ['ICY 200 OK'],
  'another version': ['HTTP/2.0 200 OK'],
  'no status': ['HTTP/1.1 '],
  'a status of two digits': ['HTTP/1.1 20 OK'],
  'a status of four digits': ['HTTP/1.1 2000 OK'],
  'a status that begins with 0': ['HTTP/1.1 099 No'],
  'a control character in its reason': ['HTTP/1.1 200 O\x07K'],
  'nothing at all': [''],
})) {
  test(`a response with ${what} is refused`, () => assert.equal(parseResponseHead(lines.join('\r\n')), null));
}

function headOf(...lines: string[]) {
  const head = parseResponseHead(lines.join('\r\n'));
  assert.ok(head !== null);
  return head;
}

test('a status line is read with a reason, with an empty one and without', () => {
  for (const [line, status, reason] of [
    ['HTTP/1.1 404 Not Here', 404, 'Not Here'],
    ['HTTP/1.1 200 ', 200, ''],
    ['HTTP/1.0 999', 999, ''],
  ] as const) {
    const head = headOf(line);
    assert.deepEqual([head.status, head.reason], [status, reason]);
  }
});

for (const [keepAlive, timeout, lines] of [
  [true, null, [OK]],
  [false, null, [OK, 'Connection: X-A, Close']],
  [false, null, ['HTTP/1.0 200 OK']],
  [true, null, ['HTTP/1.0 200 OK', 'Connection: Keep-Alive']],
  [true, 5_000, [OK, 'Keep-Alive: timeout=5']],
  [true, 5_000, [OK, 'Keep-Alive: max=3, timeout=5']],
  [true, null, [OK, 'Keep-Alive: xtimeout=5']],
] as const) {
  test(`${lines.join(' | ')}: the connection ${keepAlive ? 'lives on' : 'ends'}`, () => {
    const head = headOf(...lines);
    assert.equal(head.keepAlive, keepAlive);
    assert.equal(head.keepAliveTimeout, timeout);
  });
}

const LENGTH = 'Content-Length: 7';
for (const [framing, method, lines] of [
  ['none', 'HEAD', [OK, LENGTH]],
  ['none', 'HEAD', [OK, 'Transfer-Encoding: chunked']],
  ['none', 'GET', ['HTTP/1.1 204 No Content', LENGTH]],
  ['none', 'GET', ['HTTP/1.1 304 Not Modified', LENGTH]],
  ['none', 'GET', ['HTTP/1.1 103 Early Hints', LENGTH]],
  ['none', 'GET', [OK, 'Content-Length: 0']],
  ['until-close', 'GET', [OK]],
  ['LengthDecoder', 'GET', [OK, LENGTH]],
  ['ChunkedDecoder', 'GET', [OK, 'Transfer-Encoding: Chunked']],
] as const) {
  test(`the body of ${lines.join(' | ')} to ${method} is delimited by ${framing}`, () => {
    const found = framingOf(headOf(...lines), method);
    assert.equal(typeof found === 'string' ? found : found.constructor.name, framing);
  });
}
