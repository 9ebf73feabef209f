/** An image's name in its parts. */
export interface ImageReference {
  /** With the registry, if it names one: `localhost:8080/shop`. */
  name: string;
  tag: string | null;
  /** Such as `sha256:…`. */
  digest: string | null;
}

const NAME = /^[A-Za-z0-9](?:[\w.-]*)(?::\d+(?=\/))?(?:\/[A-Za-z0-9][\w.-]*)*/;
const REST = /^(?::(\w[\w.-]{0,127}))?(?:@([A-Za-z0-9+._-]+:[A-Fa-f0-9]{32,}))?$/;

/**
 * Reads `[registry[:port]/]name[:tag][@digest]` (the grammar of github.com/distribution/reference). Null for anything
 * else: an image's name becomes part of paths of the Docker API.
 */
export function parseReference(text: string): ImageReference | null {
  const name = NAME.exec(text)?.[0];
  if (name === undefined || name.includes('..')) return null;
  const rest = REST.exec(text.slice(name.length));
  return rest ? { name, tag: rest[1] ?? null, digest: rest[2] ?? null } : null;
}
