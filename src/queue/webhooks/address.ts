import { BlockList, isIPv4, isIPv6 } from 'node:net'

/**
 * IPv4 networks that are not the public internet.
 * Source: https://www.iana.org/assignments/iana-ipv4-special-registry
 */
const privateIPv4: readonly [string, number][] = [
  ['0.0.0.0', 8], // this network
  ['10.0.0.0', 8],
  ['100.64.0.0', 10], // carriers' NAT; the metadata of Alibaba Cloud
  ['127.0.0.0', 8],
  ['169.254.0.0', 16], // link-local; the metadata of most clouds
  ['172.16.0.0', 12],
  ['192.0.0.0', 24], // protocol assignments; the metadata of Oracle Cloud
  ['192.0.2.0', 24], // documentation
  ['192.88.99.0', 24], // 6to4 relays
  ['192.168.0.0', 16],
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24], // documentation
  ['203.0.113.0', 24], // documentation
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved; broadcast
  ['168.63.129.16', 32], // the host of an Azure machine answers here, and on no route of the internet
]

/**
 * Parts of 2000::/3 that are not the public internet, or that carry an IPv4 address which would have to be judged.
 * Source: https://www.iana.org/assignments/iana-ipv6-special-registry
 */
const privateIPv6: readonly [string, number][] = [
  ['2001::', 23], // protocol assignments; Teredo
  ['2001:db8::', 32], // documentation
  ['2002::', 16], // 6to4
  ['3fff::', 20], // documentation
]

const refusedIPv4 = new BlockList()
for (const [network, bits] of privateIPv4) refusedIPv4.addSubnet(network, bits, 'ipv4')
const refusedIPv6 = new BlockList()
for (const [network, bits] of privateIPv6) refusedIPv6.addSubnet(network, bits, 'ipv6')
const globalIPv6 = new BlockList()
globalIPv6.addSubnet('2000::', 3, 'ipv6')

/**
 * Whether an address is one of the public internet. What is not known to be is refused: of IPv6 only the space given
 * out for it passes, so loopback, link-local, unique-local, multicast, IPv4-mapped and NAT64 addresses do not.
 */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !refusedIPv4.check(address, 'ipv4')
  // A zone (`fe80::1%eth0`) belongs to addresses of one link only.
  if (!isIPv6(address) || address.includes('%')) return false
  return globalIPv6.check(address, 'ipv6') && !refusedIPv6.check(address, 'ipv6')
}
