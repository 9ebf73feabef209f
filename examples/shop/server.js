// A tiny application: says which version it is, and takes its time at /slow.
import { createServer } from 'node:http';

const version = process.env.VERSION ?? 'unknown';
const port = Number(process.env.PORT ?? 9292);

const server = createServer((request, response) => {
  const url = new URL(request.url ?? '/', 'http://shop');
  if (url.pathname === '/up') return response.end('up\n');
  const wait = url.pathname === '/slow' ? 3_000 : 0;
  setTimeout(() => response.end(`Hello from the shop, version ${version}\n`), wait);
});

server.listen(port);
process.on('SIGTERM', () => server.close());
