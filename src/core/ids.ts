import { randomBytes } from 'node:crypto'

const alphabet = '0123456789abcdefghijklmnopqrstuvwxyz'

/** 12 random characters drawn once a process, so that identifiers of two processes never meet. */
const processPart = Array.from(randomBytes(12), (byte) => alphabet[byte % 36]).join('')
let counter = 0

/**
 * An identifier unique over processes and time, such as `req_k3v9…0001f`. A counter behind a random prefix costs a
 * hundredth of a random UUID and is as unique; it is not a secret and must not be used as one.
 */
export function makeId(prefix: string): string {
  counter += 1
  return `${prefix}_${processPart}${counter.toString(36).padStart(5, '0')}`
}

/** The names of tenants, wherever they come from. They stand in log lines and keys as they are. */
export const tenantPattern = /^[\w.:@-]{1,100}$/
