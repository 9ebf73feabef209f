/** An application that gives the sample bodies: /KIND/BYTES. `PORT` says where. */
import { createServer } from 'node:http';
import { KINDS } from './sample-bodies.ts';

const made = new Map<string, Buffer>();

createServer((request, response) => {
  const [, name = '', size = ''] = (request.url ?? '').split('/');
  const kind = KINDS[name];
  if (kind === undefined) {
    response.end('ok');
    return;
  }
  const key = `${name} ${size}`;
  const body = made.get(key) ?? kind.make(Number(size));
  made.set(key, body);
  response.writeHead(200, { 'content-type': kind.type, 'content-length': body.length });
  response.end(body);
}).listen(Number(process.env['PORT']), '127.0.0.1');
