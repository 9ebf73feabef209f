import { connect } from 'node:net';
import { connectionTo, type ListenText } from './http.ts';

/** Sends one request, as it is, on a connection of its own that it asks to close; resolves to all that comes back. */
export async function sendRaw(address: ListenText, request: string): Promise<string> {
  const socket = connect(connectionTo(address) as { host: string; port: number });
  socket.write(request.replace('\r\n', '\r\nConnection: close\r\n'));
  const chunks = (await socket.toArray()) as Buffer[];
  return Buffer.concat(chunks).toString('latin1');
}
