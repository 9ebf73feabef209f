import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';
import { formatHostPort } from '../units.ts';

/** Bridges of containers, whose addresses mean another machine everywhere else: only if there is nothing better. */
const CONTAINER_BRIDGE = /^(?:docker|br-|veth|cni|flannel|virbr|lxc)/;
/** RFC 3927, RFC 4291 section 2.5.6: only good on one link. */
const LINK_LOCAL = /^(?:169\.254\.|fe[89ab])/i;

type Interfaces = Record<string, NetworkInterfaceInfo[] | undefined>;

/**
 * The URL under which others reach a listener, from its address as listeners give it. One that listens on all addresses is
 * reached at the machine's first one, IPv4 before IPv6. Null: a unix socket, or a machine without an address.
 */
export function urlOfListener(
  scheme: 'http' | 'https',
  address: string,
  interfaces: () => Interfaces = networkInterfaces,
): string | null {
  if (address.startsWith('unix:') || !URL.canParse(`${scheme}://${address}`)) return null;
  const { hostname, origin, port } = new URL(`${scheme}://${address}`);
  if (hostname !== '0.0.0.0' && hostname !== '[::]') return origin;
  const own = firstAddress(interfaces(), hostname === '[::]');
  if (own === null) return null;
  return new URL(`${scheme}://${formatHostPort(own, Number(port || (scheme === 'http' ? 80 : 443)))}`).origin;
}

function firstAddress(interfaces: Interfaces, withIpv6: boolean): string | null {
  const named = Object.entries(interfaces).flatMap(([name, addresses = []]) =>
    addresses.map((each) => ({ name, ...each })),
  );
  const usable = named.filter(({ internal, address, family }) => {
    return !internal && !LINK_LOCAL.test(address) && (withIpv6 || family === 'IPv4');
  });
  const rank = ({ name, family }: { name: string; family: string }) => {
    return (CONTAINER_BRIDGE.test(name) ? 2 : 0) + (family === 'IPv4' ? 0 : 1);
  };
  return usable.toSorted((a, b) => rank(a) - rank(b))[0]?.address ?? null;
}
