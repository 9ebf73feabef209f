import type { Socket } from 'node:net';

/** Node keeps both numbers where its own modules find them, and tells neither. */
interface WithHandle {
  readonly _handle: { readonly bytesWritten: number; readonly writeQueueSize: number } | null;
}

/**
 * How many bytes the kernel has taken of what was written to a socket, to the byte: whoever reads makes it grow, be it ever
 * so slowly. Node's own timer would do, but it starts anew with every byte that the other end sends, too. Of TLS the socket
 * below is to be asked. 0 once it is closed.
 */
export function bytesTaken(socket: Socket): number {
  const { _handle: handle } = socket as unknown as WithHandle;
  return handle === null ? 0 : handle.bytesWritten - handle.writeQueueSize;
}
