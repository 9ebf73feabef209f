import { type FieldBlock, HpackDecoder } from './hpack.ts';
import { HpackError } from './hpack-huffman.ts';
import { MAX_HEAD_BYTES } from './http1-head.ts';
import { ConnectionError, FLAG, type Frame, H2_ERROR, unpadded } from './http2-frames.ts';

/** A block may be so large (bytes) as it is sent: enough to answer a head that is too large instead of breaking off. */
const MAX_BLOCK = 4 * MAX_HEAD_BYTES;
/** One block may come in so many frames: four full ones, and some for clients that cut it up. */
const MAX_FRAMES = 16;
/** RFC 9113 section 6.2: what HEADERS frames carry with the PRIORITY flag. */
const PRIORITY_LENGTH = 5;

/** The fields of a request, or those after its body. */
export interface ReceivedFields extends FieldBlock {
  readonly streamId: number;
  readonly endStream: boolean;
}

interface PendingBlock {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly parts: Buffer[];
  size: number;
}

/** Puts the blocks of fields together from HEADERS and CONTINUATION frames, and decodes them. */
export class BlockReader {
  readonly #decoder = new HpackDecoder();
  #pending: PendingBlock | null = null;

  /** The stream whose block has begun but not ended: nothing else may come now (RFC 9113 section 6.10). */
  get pendingStream(): number | null {
    return this.#pending === null ? null : this.#pending.streamId;
  }

  /** Takes a HEADERS frame; returns null when there is more to come. Throws ConnectionError. */
  begin(frame: Frame): ReceivedFields | null {
    let part = unpadded(frame);
    if ((frame.flags & FLAG.PRIORITY) !== 0) {
      if (part.length < PRIORITY_LENGTH)
        throw new ConnectionError(H2_ERROR.FRAME_SIZE_ERROR, 'the priority is cut off');
      part = part.subarray(PRIORITY_LENGTH);
    }
    const endStream = (frame.flags & FLAG.END_STREAM) !== 0;
    this.#pending = { streamId: frame.streamId, endStream, parts: [], size: 0 };
    return this.#add(this.#pending, part, frame.flags);
  }

  /** Takes a CONTINUATION frame, as `begin`. */
  proceed(frame: Frame): ReceivedFields | null {
    if (this.#pending === null) throw new ConnectionError(H2_ERROR.PROTOCOL_ERROR, 'there is nothing to continue');
    return this.#add(this.#pending, frame.payload, frame.flags);
  }

  #add(pending: PendingBlock, part: Buffer, flags: number): ReceivedFields | null {
    pending.parts.push(part);
    pending.size += part.length;
    if (pending.size > MAX_BLOCK || pending.parts.length > MAX_FRAMES) {
      throw new ConnectionError(H2_ERROR.ENHANCE_YOUR_CALM, 'a block of fields does not end');
    }
    if ((flags & FLAG.END_HEADERS) === 0) return null;
    this.#pending = null;
    const block = pending.parts.length === 1 ? part : Buffer.concat(pending.parts);
    try {
      const { streamId, endStream } = pending;
      return { streamId, endStream, ...this.#decoder.decode(block, MAX_HEAD_BYTES) };
    } catch (error) {
      if (!(error instanceof HpackError)) throw error;
      throw new ConnectionError(H2_ERROR.COMPRESSION_ERROR, error.message);
    }
  }
}
