import type { IncomingMessage } from 'node:http'
import { badCredential, missingCredential } from './refusal.ts'

/** Longer ones are refused unread: the largest tokens of known issuers stay well below. */
const credentialBytesMax = 8_192

/** The key or token of a request, from `authorization: Bearer` or `x-api-key`. Throws unauthorized. */
export function readCredential(headers: IncomingMessage['headers']): string {
  const { authorization } = headers
  const credential = authorization === undefined ? headers['x-api-key'] : readBearer(authorization)
  if (credential === undefined || credential === '') throw missingCredential()
  if (typeof credential !== 'string') throw badCredential('More than one key was sent.')
  if (credential.length > credentialBytesMax) {
    throw badCredential(`A key or token has at most ${credentialBytesMax} bytes.`)
  }
  return credential
}

function readBearer(header: string): string {
  if (header.startsWith('Bearer ')) return header.slice(7).trim()
  // The name of the scheme is the same in any case.
  if (/^bearer +/i.test(header)) return header.replace(/^bearer +/i, '').trim()
  throw badCredential('The header authorization must be the word Bearer and a key or token.')
}
