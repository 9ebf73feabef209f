/** Bytes that are read from a container at a time. */
export const READ_SIZE = 64 * 1024;

/**
 * Where all connections read to: what is read is used up, or copied, before the next one reads. A buffer for each read, as
 * Node makes them, costs more than the copy of a small response.
 */
export const SHARED = Buffer.allocUnsafeSlow(READ_SIZE);

/**
 * Blocks for large bodies, to be used again as long as their bytes are with the kernel by the time that the next ones come. To
 * make new ones all the time has V8 collect its whole heap again and again, for the memory that it thinks it would free.
 */
const spareBlocks: Buffer[] = [];
const MOST_SPARE_BLOCKS = 32;

/** A block to read a part of a large body into, which is handed on without being copied. */
export function takeBlock(): Buffer {
  return spareBlocks.pop() ?? Buffer.allocUnsafeSlow(READ_SIZE);
}

/** Gives a block back. Nobody else may have it, or a part of it. */
export function leaveBlock(block: Buffer): void {
  if (spareBlocks.length < MOST_SPARE_BLOCKS) spareBlocks.push(block);
}
