import { strict as assert } from 'node:assert'
import { toFile } from 'openai'
import type OpenAI from 'openai'

export const endpoint = '/v1/chat/completions'

/** A line of a batch that nothing is wrong with, but for what is given. */
export const line = (n: number, more: object = {}): string =>
  JSON.stringify({
    custom_id: `line-${n}`,
    method: 'POST',
    url: endpoint,
    body: { model: 'm', messages: [{ role: 'user', content: `Number ${n}` }] },
    ...more,
  })

/** The bad ones among a thousand lines, by number: all that can be wrong with a line. */
export const badLines: Readonly<Record<number, string>> = {
  1: '{"custom_id": "cut off"',
  100: 'not JSON at all',
  200: line(200, { method: 'GET' }),
  300: line(300, { url: '/v1/embeddings' }),
  400: line(400, { custom_id: undefined }),
  500: line(500, { custom_id: 'line-2' }),
  600: line(600, { body: { model: 'm' } }),
  700: line(700, { body: { model: 'nobody', messages: [{ role: 'user', content: 'Hi' }] } }),
  800: line(800, { body: 'text' }),
  1000: line(1000, { body: { model: 'm', messages: [{ role: 'user', content: 'Hi' }], stream: true } }),
}
export const badNumbers = Object.keys(badLines).map(Number)

/** A thousand lines with ten bad ones among them. */
export const thousandLines = Array.from({ length: 1000 }, (_, n) => badLines[n + 1] ?? line(n + 1))
/** The numbers of those that are good. */
export const goodNumbers = thousandLines.flatMap((_, n) => (badLines[n + 1] === undefined ? [n + 1] : []))

export const uploadLines = async (client: OpenAI, lines: readonly string[]) =>
  client.files.create({ file: await toFile(Buffer.from(lines.join('\n')), 'lines.jsonl'), purpose: 'batch' })

/** What stands in a file of results or errors for one line. */
export type ResultRow = {
  custom_id: string | null
  response: { body: { choices: { message: { content: string } }[] } } | null
  error: { line: number; code: string; message: string } | null
}

export async function downloadRows(client: OpenAI, id: string | undefined): Promise<ResultRow[]> {
  const text = await (await client.files.content(id ?? '')).text()
  assert.ok(text.endsWith('\n'), 'the last line is not whole')
  return text
    .slice(0, -1)
    .split('\n')
    .map((row) => JSON.parse(row) as ResultRow)
}
