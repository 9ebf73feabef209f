import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LogTail } from '../src/log-tail.ts';

/** What is kept of output that comes in pieces of a size. */
function tailOf(text: string, pieceSize: number, limit = 100): string[] {
  const tail = new LogTail(limit);
  const bytes = Buffer.from(text);
  for (let start = 0; start < bytes.length; start += pieceSize) {
    tail.write('stdout', bytes.subarray(start, start + pieceSize));
  }
  return tail.last(limit);
}

describe('the tail of a log', () => {
  const cases: [string, string, string[]][] = [
    ['keeps lines as they are, empty ones too', 'one\n\nthree\n', ['one', '', 'three']],
    ['holds a line that has not ended', 'one\ntwo', ['one', 'two']],
    ['takes the carriage returns of terminals off', 'one\r\ntwo\r\n', ['one', 'two']],
    ['keeps tabs and letters of all scripts', 'a\tb é 漢 🦊\n', ['a\tb é 漢 🦊']],
    ['drops escape sequences', '\u001b[31mred\u001b[0m\n\u001b]0;title\u0007text\n', ['red', 'text']],
    ['drops control characters', 'bell\u0007 back\u0008 esc\u001b del\u007f nul\0\n', ['bell back esc del nul']],
    ['cuts long lines, and starts anew after them', `${'x'.repeat(5_000)}\nnext\n`, ['x'.repeat(2_048), 'next']],
    ['cuts a long line that has not ended', 'y'.repeat(5_000), ['y'.repeat(2_048)]],
  ];
  for (const [name, text, expected] of cases) {
    test(name, () => {
      for (const size of [1, 2, 3, 7, 1_000, 100_000]) assert.deepEqual(tailOf(text, size), expected, `by ${size}`);
    });
  }

  test('keeps only so many lines, the last', () => {
    const text = Array.from({ length: 50 }, (_, index) => `line ${index}\n`).join('');
    assert.deepEqual(tailOf(text, 13, 3), ['line 47', 'line 48', 'line 49']);
  });

  test('gives as many as are asked for', () => {
    const tail = new LogTail(10);
    tail.write('stdout', Buffer.from('one\ntwo\nthr'));
    assert.deepEqual(tail.last(2), ['two', 'thr']);
    assert.deepEqual(tail.last(0), []);
  });

  test('keeps the streams apart within a line', () => {
    const tail = new LogTail(10);
    tail.write('stdout', Buffer.from('out '));
    tail.write('stderr', Buffer.from('err '));
    tail.write('stdout', Buffer.from('one\n'));
    tail.write('stderr', Buffer.from('two\n'));
    assert.deepEqual(tail.last(10), ['out one', 'err two']);
  });
});
