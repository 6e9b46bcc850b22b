import { randomBytes } from 'node:crypto'

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'
let lastMs = 0
let counter = 0

/**
 * An identifier that sorts by the time it was made: 10 characters of milliseconds, 4 of a counter within the
 * millisecond, 10 random ones, in Crockford's base 32. `task_01k9…`. Not a secret: who may see a task is the tenant's
 * matter.
 */
export function makeTaskId(prefix: string, wallMs: number): string {
  // A clock that steps back must not make ids that sort before those already given out here.
  if (wallMs > lastMs) {
    lastMs = Math.floor(wallMs)
    counter = 0
  }
  counter += 1
  if (counter >= 32 ** 4) {
    lastMs += 1
    counter = 0
  }
  return `${prefix}_${toBase32(lastMs, 10)}${toBase32(counter, 4)}${drawCharacters()}`
}

function toBase32(value: number, length: number): string {
  let text = ''
  for (let rest = value; text.length < length; rest = Math.floor(rest / 32)) {
    text = (alphabet[rest % 32] as string) + text
  }
  return text
}

let pool = Buffer.alloc(0)
let used = 0

function drawCharacters(): string {
  if (used + 10 > pool.length) {
    pool = randomBytes(4096)
    used = 0
  }
  let text = ''
  for (const byte of pool.subarray(used, used + 10)) text += alphabet[byte % 32]
  used += 10
  return text
}
