import { BlockList, isIP } from 'node:net';

/** One CIDR block or single address. Throws a RangeError that names it. */
export function parseCidr(text: string): { address: string; prefix: number; family: 'ipv4' | 'ipv6' } {
  const slash = text.indexOf('/');
  const address = slash === -1 ? text : text.slice(0, slash);
  const version = isIP(address);
  const widest = version === 4 ? 32 : 128;
  const bits = slash === -1 ? String(widest) : text.slice(slash + 1);
  if (version === 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > widest) {
    throw new RangeError(`${text} is not an address or CIDR block such as 10.0.0.0/8`);
  }
  return { address, prefix: Number(bits), family: version === 4 ? 'ipv4' : 'ipv6' };
}

/** A test for membership in any of the blocks; IPv4-mapped IPv6 addresses count as IPv4. */
export function addressMatcher(cidrs: string[]): (address: string) => boolean {
  if (cidrs.length === 0) return () => false;
  const blocks = new BlockList();
  for (const cidr of cidrs) {
    const { address, prefix, family } = parseCidr(cidr);
    blocks.addSubnet(address, prefix, family);
  }
  return (address) => {
    const plain = unmapped(address);
    const version = isIP(plain);
    return version !== 0 && blocks.check(plain, version === 4 ? 'ipv4' : 'ipv6');
  };
}

/** `::ffff:10.0.0.1` as `10.0.0.1` (RFC 4291 section 2.5.5.2); other addresses as they are. */
export function unmapped(address: string): string {
  return address.startsWith('::ffff:') && isIP(address.slice(7)) === 4 ? address.slice(7) : address;
}

/**
 * What stands for whoever is at an address: of IPv4 the address, of IPv6 its /64, within which a host may take any (RFC 4291
 * section 2.5.1). Link-local addresses (`fe80::…`) are many hosts' in one /64.
 */
export function networkOf(address: string): string {
  if (!address.includes(':') || /^fe[89ab]/i.test(address)) return address;
  const [front = '', back] = address.split('::') as [string, string?];
  const groups = front === '' ? [] : front.split(':');
  const missing = back === undefined ? 0 : 8 - groups.length - (back === '' ? 0 : back.split(':').length);
  const all = [...groups, ...Array<string>(Math.max(0, missing)).fill('0'), ...(back ?? '').split(':')];
  return `${all.slice(0, 4).join(':')}::/64`;
}
