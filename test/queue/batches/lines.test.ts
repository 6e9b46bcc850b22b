import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { readBatchLine } from '../../../src/queue/batches/batch-line.ts'
import { isBlank, LineSplitter, type FileLine } from '../../../src/queue/batches/line-splitter.ts'

function split(pieces: readonly Buffer[], lineBytesMax = 1000): FileLine[] {
  const splitter = new LineSplitter(lineBytesMax)
  return [...pieces.flatMap((piece) => [...splitter.push(piece)]), ...splitter.end()]
}

const texts = (lines: readonly FileLine[]) => lines.map(({ bytes }) => bytes?.toString() ?? null)

/** Small and repeatable. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

function cut(file: Buffer, draw: (below: number) => number): Buffer[] {
  const pieces: Buffer[] = []
  for (let at = 0; at < file.length;) {
    // Now and then nothing at all: a piece may be empty.
    const length = draw(5) === 0 ? 0 : 1 + draw(12)
    pieces.push(file.subarray(at, at + length))
    at += length
  }
  return pieces
}

void test('lines are the same wherever the pieces are cut', () => {
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31))
  const draw = randomFrom(seed)
  for (let round = 0; round < 400; round += 1) {
    const wanted = Array.from({ length: draw(8) }, () =>
      'aé€😀x'.repeat(draw(4)).slice(0, draw(20)).toWellFormed(),
    )
    const lineBreak = draw(2) ? '\r\n' : '\n'
    const mark = draw(2) ? '\uFEFF' : ''
    const isOpen = draw(2) === 0 && wanted.at(-1) !== ''
    const file = Buffer.from(
      mark + wanted.map((text, n) => text + (isOpen && n === wanted.length - 1 ? '' : lineBreak)).join(''),
    )
    const lines = split(cut(file, draw))
    const why = `seed ${seed}, round ${round}`
    assert.deepEqual(texts(lines), wanted.length === 0 && mark ? [''] : wanted, why)
    for (const { number, at, length, bytes } of lines) {
      assert.deepEqual(file.subarray(at, at + length), bytes, `${why}, line ${number}`)
    }
    assert.deepEqual(
      lines.map(({ number }) => number),
      lines.map((_, n) => n + 1),
      why,
    )
  }
})

void test('a line that is too long is passed over, with its place, and the next one is read', () => {
  const file = Buffer.from(
    `${'a'.repeat(10)}\n${'b'.repeat(11)}\n${'c'.repeat(5000)}\r\nd\r\n${'e'.repeat(10)}\r\n${'f'.repeat(99)}`,
  )
  for (const size of [1, 3, 7, 64, 10_000]) {
    const pieces = Array.from({ length: Math.ceil(file.length / size) }, (_, n) =>
      file.subarray(n * size, n * size + size),
    )
    const lines = split(pieces, 10)
    assert.deepEqual(texts(lines), ['a'.repeat(10), null, null, 'd', 'e'.repeat(10), null])
    assert.deepEqual(
      lines.map(({ at }) => at),
      [0, 11, 23, 5025, 5028, 5040],
    )
  }
})

void test('blank lines count; an empty file has none', () => {
  assert.deepEqual(texts(split([Buffer.from('a\n\n \t\r\nb\n')])), ['a', '', ' \t', 'b'])
  assert.deepEqual(split([Buffer.alloc(0)]), [])
  assert.ok(isBlank(Buffer.from(' \t\r')))
  assert.ok(!isBlank(Buffer.from(' x')))
})

const rules = { endpoint: '/v1/chat/completions', jsonDepthMax: 4 } as const
const read = (line: unknown) =>
  readBatchLine(Buffer.from(typeof line === 'string' ? line : JSON.stringify(line)), rules)
const good = { custom_id: 'a', method: 'POST', url: '/v1/chat/completions', body: { model: 'm', x: [[{}]] } }

void test('a good line is its id and its body', () => {
  assert.deepEqual(read(good), { kind: 'good', customId: 'a', body: good.body })
})

void test('what is wrong with a line is named', () => {
  const cases: [unknown, string, string | null][] = [
    ['{"custom_id": ', 'invalid_json_line', null],
    ['[1]', 'invalid_json_line', null],
    ['"text"', 'invalid_json_line', null],
    ['null', 'invalid_json_line', null],
    ['{"a":1}{"b":2}', 'invalid_json_line', null],
    [{ ...good, body: { x: [[[{}]]] } }, 'invalid_json_line', null],
    [{ ...good, custom_id: undefined }, 'missing_required_parameter', 'custom_id'],
    [{ ...good, custom_id: 7 }, 'invalid_custom_id', 'custom_id'],
    [{ ...good, custom_id: '' }, 'invalid_custom_id', 'custom_id'],
    [{ ...good, custom_id: 'x'.repeat(513) }, 'invalid_custom_id', 'custom_id'],
    [{ ...good, method: undefined }, 'missing_required_parameter', 'method'],
    [{ ...good, method: 'GET' }, 'invalid_method', 'method'],
    [{ ...good, url: undefined }, 'missing_required_parameter', 'url'],
    [{ ...good, url: '/v1/embeddings' }, 'invalid_url', 'url'],
    [{ ...good, url: 5 }, 'invalid_url', 'url'],
    [{ ...good, body: undefined }, 'missing_required_parameter', 'body'],
    [{ ...good, body: 'text' }, 'invalid_body', 'body'],
    [{ ...good, body: [] }, 'invalid_body', 'body'],
    [{ ...good, body: null }, 'invalid_body', 'body'],
    [{ ...good, body: { stream: true } }, 'invalid_body', 'body.stream'],
  ]
  for (const [line, code, param] of cases) {
    const found = read(line)
    assert.equal(found.kind, 'bad', JSON.stringify(line))
    assert(found.kind === 'bad')
    assert.deepEqual([found.error.code, found.error.param], [code, param], JSON.stringify(line))
    assert.equal(found.customId, param === 'custom_id' || param === null ? null : 'a')
    assert.match(found.error.message, /^.{10,}\.$/)
  }
})

void test('a message about a line quotes none of its content', () => {
  const found = read('{"secret": "swordfish" ')
  assert(found.kind === 'bad')
  assert.ok(!found.error.message.includes('swordfish'))
  assert.match(found.error.message, /^The line is not valid JSON at position \d+/)
})
