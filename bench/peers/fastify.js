// @fastify/http-proxy: one process per worker, everything else as the plugin does it.
import cluster from 'node:cluster';
import { readFileSync } from 'node:fs';
import httpProxy from '@fastify/http-proxy';
import fastify from 'fastify';

const { PORT, APP, WORKERS, LOG, CERT, KEY } = process.env;

if (cluster.isPrimary) {
  for (let i = 0; i < Number(WORKERS); i++) cluster.fork();
  cluster.on('exit', () => process.exit(1));
} else {
  const server = fastify({
    logger: { file: LOG },
    keepAliveTimeout: 75_000,
    bodyLimit: 100 * 1_024 * 1_024,
    ...(CERT && { https: { cert: readFileSync(CERT), key: readFileSync(KEY) } }),
  });
  await server.register(httpProxy, {
    upstream: `http://${APP}`,
    replyOptions: {
      rewriteRequestHeaders: (request, headers) => ({
        ...headers,
        'x-forwarded-for': request.ip,
        'x-forwarded-proto': request.protocol,
        'x-forwarded-host': request.host,
      }),
    },
  });
  await server.listen({ port: Number(PORT), host: '127.0.0.1', backlog: 4_096 });
}
