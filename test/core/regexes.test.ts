import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { listRegexes, type FoundRegex } from '../helpers/regexes.ts'

/** What operators write themselves: nobody attacks with it. */
const operatorsOnly = /^src\/(cli|config|fleet)\/|^src\/main/
const found = listRegexes(['src', 'engine']).filter(({ file }) => !operatorsOnly.test(file))

const longChars = 20_000
/** More than this many times what a scan of the same text costs is not linear: a quadratic one is 10,000 times as dear. */
const factorMax = 300
const seed = 0x5eed

/** Time for one search, in ms: the best of a few, for others may work on the same cores. */
function measure(regex: RegExp, text: string, rounds: number): number {
  let best = Infinity
  for (let round = 0; round < rounds; round += 1) {
    const fresh = new RegExp(regex.source, regex.flags.replace('y', ''))
    const before = performance.now()
    if (fresh.global) text.replaceAll(fresh, '')
    else fresh.test(text)
    best = Math.min(best, performance.now() - before)
  }
  return best
}

/** Texts that a pattern matches, or nearly: what stands in it literally is a way in too. */
function listSeeds({ regex }: Pick<FoundRegex, 'regex'>): string[] {
  const literal = regex.source.replaceAll(/\\[dws]|[\\^$()?*+|[\]]/g, '')
  try {
    const some = fc.sample(fc.stringMatching(new RegExp(regex.source, '')), { numRuns: 3, seed })
    return [...some.map((text) => text.slice(0, 24)), literal.slice(0, 24)]
  } catch {
    // Looking ahead and behind is more than the generator knows.
    return [literal.slice(0, 24)]
  }
}

/** Each part of each text again and again, and then what the pattern can't match. */
function* attack(found: Pick<FoundRegex, 'regex'>, chars: number): Generator<string> {
  for (const text of [...listSeeds(found), ' ', '\t', 'a', '0', '.', '{{', '\\']) {
    for (let from = 0; from < text.length; from += 1) {
      for (const length of [1, 2, 5]) {
        const part = text.slice(from, from + length)
        if (part.length < length) continue
        const many = part.repeat(Math.ceil(chars / length))
        yield `${text.slice(0, from)}${many}`
        yield `${text.slice(0, from)}${many}\u0001!`
        yield `${many}${text.slice(from + length)}\u0001!`
      }
    }
  }
}

const judge = (one: Pick<FoundRegex, 'regex'>): string | null => {
  // A pattern whose time doubles with each letter shows that here, while it still comes to an end.
  for (const chars of [24, longChars]) {
    for (const text of attack(one, chars)) {
      const budget = 5 + factorMax * measure(/^[^\u0002]*$/, text, 1)
      if (measure(one.regex, text, 1) <= budget) continue
      const ms = measure(one.regex, text, 3)
      if (ms > budget) return `${ms.toFixed(1)} ms for ${text.length} of ${JSON.stringify(text.slice(0, 60))}`
    }
  }
  return null
}

describe('regular expressions over what callers send', () => {
  it('are all found, and none takes more than linear time over a hostile text', () => {
    assert.ok(found.length > 80, `only ${found.length} were found`)
    const slow = found.flatMap((one) => {
      const verdict = judge(one)
      return verdict === null ? [] : [`${one.file}:${one.line} ${one.regex}: ${verdict}`]
    })
    assert.deepEqual(slow, [])
  })

  for (const bad of [/^(a+)+$/, /(\w+\s?)*!$/, /\s+$/, /^(.*),(.*),x$/]) {
    it(`would be told: ${bad}`, () => assert.notEqual(judge({ regex: bad }), null))
  }
})
