import { createServer } from 'node:http';

/** An application that costs as little as it can: 1 KiB for whatever it is asked. */
const body = Buffer.alloc(1_024, 'wunderproxy ');
const server = createServer((_, response) => response.end(body));
server.keepAliveTimeout = 60_000;
server.listen(Number(process.env['PORT']), '127.0.0.1');
