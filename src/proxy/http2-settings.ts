import { ConnectionError, H2_ERROR, MAX_PAYLOAD, MAX_WINDOW, SETTING } from './http2-frames.ts';

/** There are eight settings; a client may send some that it has made up. */
const MAX_SETTINGS = 64;
const MAX_FRAME_SIZE = 2 ** 24 - 1;

/** What a client wants, as far as it concerns what we send it. Null: not said. */
export interface ClientSettings {
  /** Of its decoder's dynamic table, in bytes. */
  tableSize: number | null;
  /** Of each stream, at first, in bytes. */
  window: number | null;
}

/** Reads a SETTINGS frame (RFC 9113 section 6.5). Throws ConnectionError. */
export function readSettings(payload: Buffer): ClientSettings {
  const result: ClientSettings = { tableSize: null, window: null };
  if (payload.length % 6 !== 0) throw new ConnectionError(H2_ERROR.FRAME_SIZE_ERROR, 'a setting is cut off');
  if (payload.length / 6 > MAX_SETTINGS) throw new ConnectionError(H2_ERROR.ENHANCE_YOUR_CALM, 'too many settings');
  for (let at = 0; at < payload.length; at += 6) {
    const value = payload.readUInt32BE(at + 2);
    switch (payload.readUInt16BE(at)) {
      case SETTING.HEADER_TABLE_SIZE:
        result.tableSize = value;
        break;
      case SETTING.ENABLE_PUSH:
        if (value > 1) throw new ConnectionError(H2_ERROR.PROTOCOL_ERROR, 'a setting has no such value');
        break;
      case SETTING.INITIAL_WINDOW_SIZE:
        if (value > MAX_WINDOW) throw new ConnectionError(H2_ERROR.FLOW_CONTROL_ERROR, 'the window is too large');
        result.window = value;
        break;
      case SETTING.MAX_FRAME_SIZE:
        // Larger frames would only keep other streams waiting.
        if (value < MAX_PAYLOAD || value > MAX_FRAME_SIZE) {
          throw new ConnectionError(H2_ERROR.PROTOCOL_ERROR, 'a setting has no such value');
        }
        break;
      default:
    }
  }
  return result;
}
