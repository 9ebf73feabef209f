/** Size of a block in bytes: what is read from a container at a time, and what a larger body in memory consists of. */
export const BLOCK_SIZE = 64 * 1024;

/**
 * Blocks are used again. To make new ones all the time has V8 collect its whole heap again and again, for the memory that it
 * thinks it would free, and the kernel clear every page of them.
 */
const spare: Buffer[] = [];
const MOST_SPARE = 64;

/** A block with anybody's bytes in it. */
export function takeBlock(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(BLOCK_SIZE);
}

/** Gives a block back. Nobody else may have it, or a part of it: not even the kernel, for a write that is under way. */
export function leaveBlock(block: Buffer): void {
  if (spare.length < MOST_SPARE) spare.push(block);
}
