import { LimitExceeded, TooLarge } from './store-failure.ts';

/** What the SDK's errors have in common, and Node's that come through it. */
interface S3Failure {
  name?: string;
  message?: string;
  code?: string;
  $metadata?: { httpStatusCode?: number; attempts?: number; requestId?: string };
}

const REFUSED = new Set([
  'AccessDenied',
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'ExpiredToken',
  'InvalidToken',
]);

const NETWORK: Record<string, string> = {
  ECONNREFUSED: 'the connection was refused',
  ECONNRESET: 'the connection was broken off',
  EPIPE: 'the connection was broken off',
  ENOTFOUND: 'its host name is not known',
  EAI_AGAIN: 'its host name can not be looked up',
  EHOSTUNREACH: 'there is no way to its host',
  ENETUNREACH: 'there is no way to its host',
};

function statusOf(failure: S3Failure): number | undefined {
  return failure.$metadata?.httpStatusCode;
}

/** There is no such object. A missing bucket is a failure instead. */
export function isMissing(error: unknown): boolean {
  const failure = error as S3Failure;
  return failure.name !== 'NoSuchBucket' && statusOf(failure) === 404;
}

/**
 * The condition of a write did not hold: 412, 409 when another write was under way, or 404 when an object that was to be
 * there is gone (Amazon S3 API, PutObject).
 */
export function isOvertaken(error: unknown): boolean {
  const status = statusOf(error as S3Failure);
  return status === 412 || status === 409 || isMissing(error);
}

/** The store says that it has no conditional writes. */
export function lacksConditions(error: unknown): boolean {
  return statusOf(error as S3Failure) === 501;
}

/** An earlier try had no answer or a failure as its answer: it may or may not have been carried out. */
export function wasRetried(error: unknown): boolean {
  return ((error as S3Failure).$metadata?.attempts ?? 1) > 1;
}

/**
 * A few words for people, and a cause for the log. The SDK's own errors are not handed on: they carry requests and
 * responses whole, with signatures and key ids in them.
 */
export function describeS3Failure(error: unknown, bucket: string): { why: string; cause: Error } {
  const failure = error as S3Failure;
  return { why: reasonOf(failure, bucket), cause: bareCopy(failure) };
}

function reasonOf(failure: S3Failure, bucket: string): string {
  const name = failure.name ?? 'Error';
  const status = statusOf(failure);
  if (failure instanceof LimitExceeded || failure instanceof TooLarge) return failure.message;
  if (name === 'TimeoutError' || name === 'AbortError' || failure.code === 'ETIMEDOUT') return 'no answer in time';
  if (name === 'NoSuchBucket') return `there is no bucket ${bucket}`;
  if (name === 'CredentialsProviderError') return 'no credentials were found for it';
  if (failure.message === 'Region is missing') return 'no region is set (AWS_REGION)';
  if (REFUSED.has(name) || status === 401 || status === 403) return `access denied (${name})`;
  const network = NETWORK[failure.code ?? ''];
  if (network !== undefined) return network;
  return status === undefined ? (failure.code ?? name) : `it answered ${status} ${name}`;
}

function bareCopy(failure: S3Failure): Error {
  // What a credentials helper printed may be in its error.
  const message = failure.name === 'CredentialsProviderError' ? 'no credentials' : (failure.message ?? '');
  const copy = new Error(message);
  copy.name = failure.name ?? 'Error';
  const { httpStatusCode, attempts, requestId } = failure.$metadata ?? {};
  return Object.assign(copy, { code: failure.code, status: httpStatusCode, attempts, requestId });
}
