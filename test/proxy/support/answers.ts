/** A final response as a client reads it. */
export interface Answer {
  status: number;
  body: Buffer;
  /** Its end was marked by its framing, not by the end of the connection. */
  whole: boolean;
}

/**
 * Everything that came on a connection as final responses (RFC 9112 section 6); the last one may be cut off. Knows no
 * responses without a body but by their length. Throws on what is no response.
 */
export function readAnswers(received: Buffer): Answer[] {
  const answers: Answer[] = [];
  let rest = received;
  while (rest.length > 0) {
    const end = rest.indexOf('\r\n\r\n');
    // A head that was cut off is no answer.
    if (end === -1) break;
    const head = rest.toString('latin1', 0, end);
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]);
    if (Number.isNaN(status)) throw new Error(`no response: ${JSON.stringify(head.slice(0, 200))}`);
    const content = rest.subarray(end + 4);
    if (status < 200) {
      rest = content;
      continue;
    }
    const length = /^content-length: (\d+)$/im.exec(head)?.[1];
    const { body, used } = length === undefined ? unchunk(content) : take(content, Number(length));
    answers.push({ status, body, whole: used !== null });
    if (used === null) break;
    rest = content.subarray(used);
  }
  return answers;
}

interface Part {
  body: Buffer;
  /** Bytes that it took up; null: it is not complete. */
  used: number | null;
}

function take(content: Buffer, length: number): Part {
  return { body: content.subarray(0, length), used: content.length < length ? null : length };
}

/** Of a chunked body without extensions or trailers. */
function unchunk(content: Buffer): Part {
  const chunks: Buffer[] = [];
  for (let at = 0; ;) {
    const line = content.indexOf('\r\n', at);
    const size = line === -1 ? Number.NaN : Number.parseInt(content.toString('latin1', at, line), 16);
    const end = line + 2 + size;
    const complete = line !== -1 && content.length >= end + 2;
    if (line !== -1) chunks.push(content.subarray(line + 2, Math.min(end, content.length)));
    if (!complete) return { body: Buffer.concat(chunks), used: null };
    at = end + 2;
    if (size === 0) return { body: Buffer.concat(chunks), used: at };
  }
}
