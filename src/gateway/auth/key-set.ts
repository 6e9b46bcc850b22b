import { createLocalJWKSet, type JSONWebKeySet, type LocalJWKSet } from 'jose'

/** The public keys of an issuer, as they stand in a JWKS document. */
export type KeySet = { find: LocalJWKSet; text: string }

export const keySetBytesMax = 262_144
const keysMax = 100
const publicTypes: ReadonlySet<unknown> = new Set(['RSA', 'EC', 'OKP'])
const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth'] as const

/** Reads a JWKS document. Throws an Error that says what is wrong with it. */
export function parseKeySet(text: string): KeySet {
  if (Buffer.byteLength(text) > keySetBytesMax) throw new Error(`it is larger than ${keySetBytesMax} bytes`)
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    throw new Error('it is not JSON')
  }
  const { keys } = (document ?? {}) as { keys?: unknown }
  if (!Array.isArray(keys)) throw new Error('it is not a JWKS document: an object with a list `keys`')
  if (keys.length > keysMax) throw new Error(`it has ${keys.length} keys; at most ${keysMax} are read`)
  // A shared secret has no place in a public document: HS tokens are never checked with what is found here.
  const usable = keys.filter(
    (key): key is JSONWebKeySet['keys'][number] =>
      typeof key === 'object' && key !== null && publicTypes.has((key as { kty?: unknown }).kty),
  )
  // An issuer without keys has none to trust: more likely the document went wrong, and what was read before stays.
  if (usable.length === 0) throw new Error('it holds no public key')
  if (usable.some((key) => privateMembers.some((member) => Object.hasOwn(key, member)))) {
    throw new Error('it holds a private key: publish the public part alone')
  }
  return { find: createLocalJWKSet({ keys: usable }), text }
}
