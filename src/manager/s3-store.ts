import { randomUUID } from 'node:crypto';
import { addAbortSignal, type Readable } from 'node:stream';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type PutObjectCommandInput,
  S3Client,
} from '@aws-sdk/client-s3';
import { WunderproxyError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { openFileArtifact } from './directory-store.ts';
import { idleLimited } from './idle-limit.ts';
import { describeS3Failure, isMissing, isOvertaken, lacksConditions, wasRetried } from './s3-failure.ts';
import { STORE_LIMIT_MS, storeUnavailable, TooLarge, withinLimit } from './store-failure.ts';
import type { ConfigStore, StoredEntry, StoredObject } from './store.ts';

const CONNECT_LIMIT_MS = 2_000;
/** Two tries fit into STORE_LIMIT_MS. */
const TRY_LIMIT_MS = 2_400;
const ARTIFACT_IDLE_MS = 30_000;
/** For a whole listing; each of its pages is a call of its own. */
const LIST_LIMIT_MS = 30_000;

/** An entity tag that no object has. */
const NO_ETAG = '0'.repeat(32);

/** Marks each conditional write, so that a lost answer can be told from a lost race. */
const WRITE_ID = 'wunderproxy-write';

export interface S3Options {
  /** Null: AWS, or what the SDK's own settings name. */
  endpoint: string | null;
  pathStyle: boolean;
}

/**
 * A client with the standard chain's credentials and region, and bounded tries.
 *
 * Stores other than AWS have no real regions, so that one is made up when an endpoint is given and the chain names none.
 * Checksums are left to the requests that need them: older gateways refuse the SDK's default trailers.
 */
export function createS3Client(options: S3Options): S3Client {
  const chain = new S3Client({});
  return new S3Client({
    ...(options.endpoint === null
      ? {}
      : { endpoint: options.endpoint, region: () => chain.config.region().catch(() => 'us-east-1') }),
    forcePathStyle: options.pathStyle,
    maxAttempts: 2,
    requestHandler: {
      connectionTimeout: CONNECT_LIMIT_MS,
      requestTimeout: TRY_LIMIT_MS,
      throwOnRequestTimeout: true,
    },
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
  });
}

/**
 * An image archive in a bucket, or null when there is none. No limit as a whole, but one on silence: the stream fails
 * after 30 s without a byte, and when `signal` aborts. Throws `store_unavailable`.
 */
export async function openS3Artifact(
  client: S3Client,
  bucket: string,
  key: string,
  signal: AbortSignal,
): Promise<Readable | null> {
  const name = `s3://${bucket}`;
  return translated(name, bucket, `read ${key}`, async () => {
    const body = await withinLimit(STORE_LIMIT_MS, async (limit) => {
      const abortSignal = AbortSignal.any([signal, limit]);
      const output = await client
        .send(new GetObjectCommand({ Bucket: bucket, Key: key }), { abortSignal })
        .catch(whenMissing(null));
      return output && (output.Body as Readable);
    });
    return body && addAbortSignal(signal, idleLimited(body, ARTIFACT_IDLE_MS));
  });
}

/**
 * The store in an S3 bucket: each key is an object below the prefix. Compare-and-swap is S3's own conditional write
 * (`If-Match`, `If-None-Match`); a store without it is worked with as well as it allows, after a warning.
 */
export class S3Store implements ConfigStore {
  readonly name: string;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #log: Logger;
  #conditions: Promise<boolean> | null = null;

  /** Closes `client` when it is closed. */
  constructor(client: S3Client, bucket: string, prefix: string, log: Logger) {
    this.name = `s3://${bucket}/${prefix}`;
    this.#client = client;
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#log = log;
  }

  async read(key: string, limit = Infinity): Promise<StoredObject | null> {
    return this.#attempt(`read ${key}`, async (abortSignal) => {
      const output = await this.#client
        .send(new GetObjectCommand(this.#at(key)), { abortSignal })
        .catch(whenMissing(null));
      if (!output) return null;
      const bytes = await collect(addAbortSignal(abortSignal, output.Body as Readable), limit);
      return { bytes, version: versionOf(output.ETag) };
    });
  }

  async replace(key: string, bytes: Buffer, expected: string | null): Promise<boolean> {
    return this.#attempt(`write ${key}`, async (abortSignal) => {
      return (await this.#heedsConditions(abortSignal))
        ? this.#replaceConditionally(key, bytes, expected, abortSignal)
        : this.#replaceAfterLook(key, bytes, expected, abortSignal);
    });
  }

  async write(key: string, bytes: Buffer): Promise<void> {
    await this.#attempt(`write ${key}`, async (abortSignal) => {
      await this.#client.send(new PutObjectCommand(this.#content(key, bytes)), { abortSignal });
    });
  }

  async list(prefix: string): Promise<string[]> {
    const started = Date.now();
    const doing = `list ${prefix}*`;
    const keys: string[] = [];
    let after: string | undefined;
    do {
      if (Date.now() - started > LIST_LIMIT_MS) throw storeUnavailable(this.name, doing, 'the list does not end');
      const page = await this.#attempt(doing, async (abortSignal) => {
        const { Bucket, Key: Prefix } = this.#at(prefix);
        return this.#client.send(new ListObjectsV2Command({ Bucket, Prefix, ContinuationToken: after }), {
          abortSignal,
        });
      });
      for (const { Key } of page.Contents ?? []) if (Key !== undefined) keys.push(Key.slice(this.#prefix.length + 1));
      after = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (after !== undefined);
    return keys.sort();
  }

  async entries(prefix: string, limit: number): Promise<StoredEntry[]> {
    const page = await this.#attempt(`list ${prefix}*`, async (abortSignal) => {
      const { Bucket, Key: Prefix } = this.#at(prefix);
      return this.#client.send(new ListObjectsV2Command({ Bucket, Prefix, MaxKeys: limit }), { abortSignal });
    });
    const entries = (page.Contents ?? []).map(({ Key = '', ETag, Size = 0 }) => {
      return { key: Key.slice(this.#prefix.length + 1), tag: versionOf(ETag), size: Size };
    });
    return entries.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async remove(key: string): Promise<void> {
    await this.#attempt(`remove ${key}`, async (abortSignal) => {
      await this.#client.send(new DeleteObjectCommand(this.#at(key)), { abortSignal });
    });
  }

  async openArtifact(bucket: string, key: string, signal: AbortSignal): Promise<Readable | null> {
    if (bucket.startsWith('file:')) return openFileArtifact(bucket, key, signal);
    return openS3Artifact(this.#client, bucket, key, signal);
  }

  close(): void {
    this.#client.destroy();
  }

  async #replaceConditionally(
    key: string,
    bytes: Buffer,
    expected: string | null,
    abortSignal: AbortSignal,
  ): Promise<boolean> {
    const id = randomUUID();
    const condition = expected === null ? { IfNoneMatch: '*' } : { IfMatch: expected };
    try {
      const input = { ...this.#content(key, bytes), ...condition, Metadata: { [WRITE_ID]: id } };
      await this.#client.send(new PutObjectCommand(input), { abortSignal });
      return true;
    } catch (error) {
      if (!isOvertaken(error)) throw error;
      // The first try may have been carried out and only its answer lost: then it is our own write that overtook us.
      return wasRetried(error) && (await this.#head(key, abortSignal))?.Metadata?.[WRITE_ID] === id;
    }
  }

  async #replaceAfterLook(
    key: string,
    bytes: Buffer,
    expected: string | null,
    abortSignal: AbortSignal,
  ): Promise<boolean> {
    const current = await this.#head(key, abortSignal);
    if ((current && versionOf(current.ETag)) !== expected) return false;
    await this.#client.send(new PutObjectCommand(this.#content(key, bytes)), { abortSignal });
    return true;
  }

  /** Asked of the store once; a failure is not an answer. */
  async #heedsConditions(abortSignal: AbortSignal): Promise<boolean> {
    this.#conditions ??= this.#probeConditions(abortSignal);
    try {
      return await this.#conditions;
    } catch (error) {
      this.#conditions = null;
      throw error;
    }
  }

  /**
   * Whether the store heeds conditions: a write on condition that a missing object has a certain version. One that does
   * refuses, and nothing is written.
   */
  async #probeConditions(abortSignal: AbortSignal): Promise<boolean> {
    const key = `conditional-write-probe-${randomUUID()}`;
    try {
      const probe = { ...this.#content(key, Buffer.alloc(0)), IfMatch: NO_ETAG };
      await this.#client.send(new PutObjectCommand(probe), { abortSignal });
      await this.#client.send(new DeleteObjectCommand(this.#at(key)), { abortSignal }).catch(() => {});
    } catch (error) {
      if (isOvertaken(error)) return true;
      if (!lacksConditions(error)) throw error;
    }
    this.#log.warn(
      { store: this.name },
      'the store has no conditional writes: two managers that write at the same moment can lose one of their entries',
    );
    return false;
  }

  async #head(key: string, abortSignal: AbortSignal) {
    return this.#client.send(new HeadObjectCommand(this.#at(key)), { abortSignal }).catch(whenMissing(null));
  }

  #at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: `${this.#prefix}/${key}` };
  }

  #content(key: string, bytes: Buffer): PutObjectCommandInput {
    const ContentType = key.endsWith('.json') ? 'application/json' : 'application/octet-stream';
    return { ...this.#at(key), Body: bytes, ContentType };
  }

  async #attempt<T>(doing: string, act: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return translated(this.name, this.#bucket, doing, () => withinLimit(STORE_LIMIT_MS, act));
  }
}

/** Ceph compares an `If-Match` with the bare tag, AWS takes it with its quotes or without. */
function versionOf(etag: string | undefined): string {
  return (etag ?? '').replaceAll('"', '');
}

/** The bytes of a stream, which is broken off when they are too many. */
async function collect(stream: Readable, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > limit) throw new TooLarge(limit);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function whenMissing<T>(fallback: T): (error: unknown) => T {
  return (error) => {
    if (isMissing(error)) return fallback;
    throw error;
  };
}

async function translated<T>(store: string, bucket: string, doing: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof WunderproxyError) throw error;
    const { why, cause } = describeS3Failure(error, bucket);
    throw storeUnavailable(store, doing, why, cause);
  }
}
