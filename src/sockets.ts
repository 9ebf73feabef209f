import { existsSync, rmSync } from 'node:fs';
import * as net from 'node:net';
import { constants } from 'node:os';
import { dirname } from 'node:path';
import { getSystemErrorMessage } from 'node:util';
import { formatHostPort, formatListenAddress, type ListenAddress } from './units.ts';

/** A listener can't be opened: one line that says which and why. */
export class ListenError extends Error {}

/**
 * Sockets that are bound here, in the primary, and listened on in children that inherit them by file descriptor.
 *
 * The primary never accepts. Because it keeps the sockets open, a connection that arrives while a child is being
 * replaced waits in the kernel's queue instead of being refused.
 */
export interface BoundListener {
  /** As it really is, with the port that was picked for port 0. */
  readonly address: string;
  /** One file descriptor per child that is to share the address. */
  readonly fds: number[];
  close(): void;
}

/**
 * Binds one address for `shares` children. On TCP each gets a socket of its own (SO_REUSEPORT), over which the kernel
 * spreads connections evenly: with one shared socket, the child that wakes up first takes nearly all of a burst.
 * Throws ListenError.
 */
export async function bind(option: string, address: ListenAddress, shares: number): Promise<BoundListener> {
  try {
    return address.kind === 'unix' ? await bindUnix(address.path, shares) : bindTcp(address.host, address.port, shares);
  } catch (error) {
    throw new ListenError(`${option} ${formatListenAddress(address)}: ${explain(error)}`, { cause: error });
  }
}

function bindTcp(host: string, port: number, shares: number): BoundListener {
  // With SO_REUSEPORT a second program could share our port unnoticed, so ask first without it.
  const probe = new net.BoundSocket({ host, port });
  const actual = probe.address().port;
  probe.close();
  const sockets: net.BoundSocket[] = [];
  try {
    for (let i = 0; i < shares; i++) sockets.push(new net.BoundSocket({ host, port: actual, reusePort: shares > 1 }));
  } catch (error) {
    for (const socket of sockets) socket.close();
    throw error;
  }
  return {
    address: formatHostPort(host, actual),
    fds: sockets.map((socket) => socket.fd()),
    close: () => {
      for (const socket of sockets) socket.close();
    },
  };
}

/** What Node's own cluster module binds pipes with; BoundSocket knows TCP only. */
const createServerHandle = (
  net as unknown as { _createServerHandle(path: string, port: -1, type: -1): number | { fd: number; close(): void } }
)._createServerHandle;

async function bindUnix(path: string, shares: number): Promise<BoundListener> {
  if (existsSync(path)) {
    if (await answers(path)) throw Object.assign(new Error('in use'), { code: 'EADDRINUSE' });
    rmSync(path);
  }
  const handle = createServerHandle(path, -1, -1);
  if (typeof handle === 'number') throw Object.assign(new Error(whyNotBound(path, handle)), { errno: handle });
  return {
    address: `unix:${path}`,
    fds: Array.from({ length: shares }, () => handle.fd),
    close: () => {
      handle.close();
      rmSync(path, { force: true });
    },
  };
}

/** libuv says EACCES also where the folder is missing. */
function whyNotBound(path: string, errno: number): string {
  if (!existsSync(dirname(path))) return `there is no folder ${dirname(path)}`;
  return errno === -constants.errno.EACCES ? 'permission denied' : getSystemErrorMessage(errno);
}

/** Whether somebody accepts there: a socket file alone may be what a crash left behind. */
async function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function explain(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  return (code !== undefined && EXPLANATIONS[code]) || (message ?? String(error));
}

const EXPLANATIONS: Record<string, string> = {
  EADDRINUSE: 'the address is already in use',
  EACCES: 'not permitted (ports below 1024 need root or CAP_NET_BIND_SERVICE)',
  EADDRNOTAVAIL: 'this machine has no such address',
};
