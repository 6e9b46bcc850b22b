import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

/**
 * A key as people hold it: `sk-agm-ID-SECRET`. The prefix is for scanners that look for leaked secrets; the id names
 * the key in lists and logs; the secret is 256 random bits and a mark of 47 bits that only this server can make. A key
 * that was made up is known by its mark, before the storage is asked: a flood of them costs no more than its HMACs.
 */

const letters = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const idLength = 12
const secretLength = 43
const markLength = 8
const prefix = 'sk-agm-'
const pattern = /^sk-agm-([0-9A-Za-z]{12})-([0-9A-Za-z]{51})$/

export const isKeyText = (credential: string): boolean => credential.startsWith(prefix)
export const isKeyId = (text: string): boolean => /^[0-9A-Za-z]{12}$/.test(text)

/** Random letters without a bias: bytes beyond the last whole run of the alphabet are thrown away. */
function drawLetters(count: number): string {
  let text = ''
  while (text.length < count) {
    for (const byte of randomBytes(count)) if (byte < 248 && text.length < count) text += letters[byte % 62]
  }
  return text
}

const hmac = (secret: string, purpose: string, text: string) =>
  createHmac('sha256', secret).update(`${purpose}\n${text}`).digest()

const markOf = (secret: string, text: string): string =>
  Array.from(hmac(secret, 'key mark', text).subarray(0, markLength), (byte) => letters[byte % 62]).join('')

/** A new key and its id. `secret` is the server's. */
export function drawKey(secret: string): { id: string; text: string } {
  const id = drawLetters(idLength)
  const body = `${prefix}${id}-${drawLetters(secretLength)}`
  return { id, text: `${body}${markOf(secret, body)}` }
}

/** The id that a key names; null for what this server has not made. */
export function readKeyId(secret: string, text: string): string | null {
  const id = pattern.exec(text)?.[1]
  if (id === undefined) return null
  const body = text.slice(0, -markLength)
  return isSame(markOf(secret, body), text.slice(-markLength)) ? id : null
}

/** A short name of the server's secret, which tells keys made under another one. */
export const nameSecret = (secret: string): string =>
  hmac(secret, 'key secret', '').toString('hex').slice(0, 8)

/** What is kept of a key: the name of the secret and the hash under it. */
export const hashKey = (secret: string, text: string): string =>
  `${nameSecret(secret)}:${hmac(secret, 'key hash', text).toString('hex')}`

/** Compares in a time that does not depend on where the two differ. */
export function isSame(a: string, b: string): boolean {
  const left = Buffer.from(a)
  const right = Buffer.from(b)
  return left.length === right.length && timingSafeEqual(left, right)
}
