/**
 * Runs in a network of its own (network_namespaces(7)) and keeps it there as long as its parent lives, which is in the
 * machine's network: listens on its own loopback, and hands the parent the socket that listens.
 */
import { createServer } from 'node:net';

process.once('disconnect', () => process.exit());
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  process.send?.('listening', server, () => server.close());
});
