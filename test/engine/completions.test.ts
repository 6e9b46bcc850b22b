import { strict as assert } from 'node:assert'
import { after, before, test } from 'node:test'
import OpenAI, { APIError } from 'openai'
import { startEngine, storiesMissing, storiesPath, type StartedEngine } from '../helpers/engine.ts'

let engine: StartedEngine
let client: OpenAI
const prompt = 'Once upon a time'

before(async () => {
  engine = await startEngine({ parallel: 4, waitingMax: 8 })
  client = new OpenAI({ baseURL: `${engine.url}/v1`, apiKey: 'none', maxRetries: 0 })
})
after(() => engine.stop())

type Params = Omit<OpenAI.CompletionCreateParamsNonStreaming, 'model'>

/** One reply, greedy unless told otherwise. `extra` holds parameters that OpenAI's API does not have. */
function complete(params: Partial<Params> = {}, extra: Record<string, unknown> = {}) {
  return client.completions.create({ model: 'tiny', prompt, temperature: 0, ...params, ...extra })
}

async function textOf(params: Partial<Params> = {}, extra: Record<string, unknown> = {}) {
  return (await complete(params, extra)).choices[0]?.text ?? ''
}

async function stream(params: Partial<Params>) {
  const chunks: OpenAI.Completion[] = []
  const events = await client.completions.create({
    model: 'tiny',
    prompt,
    temperature: 0,
    ...params,
    stream: true,
  })
  for await (const chunk of events) chunks.push(chunk)
  return {
    chunks,
    text: chunks.map((chunk) => chunk.choices[0]?.text ?? '').join(''),
    finish: chunks.findLast((chunk) => chunk.choices.length > 0)?.choices[0]?.finish_reason,
  }
}

/** Token ids of the words whose piece is exactly `text`, found through the engine itself. */
async function tokensOf(text: string): Promise<number[]> {
  const found: number[] = []
  const size = engine.info.vocabularyTokens
  for (let token = 0; token < size; token += 1) {
    const { vocabulary } = await vocabularyOnce()
    if (vocabulary[token] === text) found.push(token)
  }
  return found
}
let vocabularyKept: Promise<{ vocabulary: string[] }> | null = null
function vocabularyOnce() {
  vocabularyKept ??= import('node-llama-cpp').then(async ({ readGgufFileInfo }) => {
    const { tinyPath } = await import('../helpers/engine.ts')
    const info = await readGgufFileInfo(tinyPath)
    return { vocabulary: [...info.metadata.tokenizer.ggml.tokens] }
  })
  return vocabularyKept
}

async function refused(params: Partial<Params>, extra: Record<string, unknown> = {}): Promise<APIError> {
  const error: unknown = await complete(params, extra).catch((thrown: unknown) => thrown)
  assert.ok(error instanceof APIError, `expected a refusal, got ${JSON.stringify(error)}`)
  return error
}

test('a completion has the shape, the counts and the end that OpenAI gives it', async () => {
  const reply = await complete()
  assert.equal(reply.object, 'text_completion')
  assert.equal(reply.model, 'tiny')
  assert.equal(reply.choices[0]?.finish_reason, 'length')
  assert.equal(reply.usage?.completion_tokens, 16, 'max_tokens is 16 where it is absent')
  assert.equal(reply.usage.total_tokens, reply.usage.prompt_tokens + 16)
})

test('greedy text is the same alone and streamed, and a stream is one event a token', async () => {
  const whole = await textOf({ max_tokens: 24 })
  const streamed = await stream({ max_tokens: 24, stream_options: { include_usage: true } })
  assert.equal(streamed.text, whole)
  assert.equal(streamed.finish, 'length')
  assert.equal(streamed.chunks.at(-1)?.usage?.completion_tokens, 24)
  assert.deepEqual(streamed.chunks.at(-1)?.choices, [])
  assert.equal(streamed.chunks.length, 24 + 2)
})

test('max_tokens and max_completion_tokens limit; 0 generates nothing', async () => {
  assert.equal((await complete({ max_tokens: 3 })).usage?.completion_tokens, 3)
  assert.equal((await complete({}, { max_completion_tokens: 5 })).usage?.completion_tokens, 5)
  const none = await complete({ max_tokens: 0, echo: true })
  assert.deepEqual([none.choices[0]?.text, none.usage?.completion_tokens], [prompt, 0])
  assert.equal((await refused({ max_tokens: 3 }, { max_completion_tokens: 4 })).param, 'max_tokens')
})

test('the same seed gives the same text, another one another text', async () => {
  const draw = (seed: number) => textOf({ seed, temperature: 1.5, max_tokens: 24 })
  const [a, b, c] = [await draw(7), await draw(7), await draw(8)]
  assert.equal(a, b)
  assert.notEqual(a, c)
})

test('the same seed gives the same text while others decode in the same batches', async () => {
  const draw = () => textOf({ seed: 11, temperature: 1, max_tokens: 40 }, { ignore_eos: true })
  const alone = await draw()
  const others = [1, 2, 3].map((seed) =>
    textOf({ seed, temperature: 2, max_tokens: 60 }, { ignore_eos: true }),
  )
  const crowded = await draw()
  await Promise.all(others)
  assert.equal(crowded, alone)
})

test('temperature, top_p, top_k and min_p each narrow the choice down to the greedy one', async () => {
  const greedy = await textOf({ max_tokens: 12 })
  const hot = { temperature: 2, seed: 3, max_tokens: 12 }
  assert.notEqual(await textOf(hot), greedy)
  assert.equal(await textOf({ ...hot, top_p: 0 }), greedy)
  assert.equal(await textOf(hot, { top_k: 1 }), greedy)
  assert.equal(await textOf(hot, { min_p: 1 }), greedy)
})

test('stop strings end the text before them, in one piece and streamed, also across tokens', async () => {
  const full = await textOf({ max_tokens: 40 })
  for (const [from, to] of [
    [10, 11],
    [9, 16],
    [5, 20],
  ] as const) {
    const stop = full.slice(from, to)
    const expected = full.slice(0, full.indexOf(stop))
    const reply = await complete({ max_tokens: 40, stop })
    assert.deepEqual([reply.choices[0]?.text, reply.choices[0]?.finish_reason], [expected, 'stop'])
    const streamed = await stream({ max_tokens: 40, stop: ['never ever', stop] })
    assert.deepEqual([streamed.text, streamed.finish], [expected, 'stop'])
  }
})

test('what looked like a stop string and was none is given out at the end', async () => {
  const full = await textOf({ max_tokens: 10 })
  const streamed = await stream({ max_tokens: 10, stop: `${full.slice(-4)}#` })
  assert.deepEqual([streamed.text, streamed.finish], [full, 'length'])
})

test('penalties keep tokens from coming again', async () => {
  const draw = (params: Partial<Params>) =>
    complete({ max_tokens: 120, logprobs: 0, ...params }, { ignore_eos: true })
  const distinct = (reply: OpenAI.Completion) => new Set(reply.choices[0]?.logprobs?.tokens).size
  // Whatever text a model favours: pushed away from what was said it says more kinds of tokens than drawn to it.
  for (const name of ['frequency_penalty', 'presence_penalty'] as const) {
    const [away, towards] = [distinct(await draw({ [name]: 2 })), distinct(await draw({ [name]: -2 }))]
    assert.ok(away > towards, `${name}: ${away} distinct tokens at 2, ${towards} at -2`)
  }
})

test('logit_bias forbids at -100 and forces at 100', async () => {
  const [token] = await tokensOf('!')
  assert.ok(token !== undefined)
  assert.equal(await textOf({ max_tokens: 3, logit_bias: { [token]: 100 } }), '!!!')
  const first = await complete({ max_tokens: 1, logprobs: 1 })
  const [word] = await tokensOf((first.choices[0]?.logprobs?.tokens?.[0] ?? '').replaceAll(' ', 'Ġ'))
  assert.ok(word !== undefined)
  assert.notEqual(await textOf({ max_tokens: 1, logit_bias: { [word]: -100 } }), first.choices[0]?.text)
})

test('n gives numbered replies of one prompt, counted and read once', async () => {
  const long = 'Once upon a time there was a little girl who had a small dog and a big red ball. '
  const params = { prompt: long.repeat(3), temperature: 1, max_tokens: 20 }
  const reply = await complete({ ...params, n: 4 })
  const texts = reply.choices.map(({ text }) => text)
  assert.deepEqual(
    reply.choices.map(({ index }) => index),
    [0, 1, 2, 3],
  )
  assert.ok(new Set(texts).size > 1)
  const one = await complete(params)
  assert.equal(one.usage?.prompt_tokens, reply.usage?.prompt_tokens)
  assert.equal(one.usage?.prompt_tokens_details?.cached_tokens, (one.usage?.prompt_tokens ?? 0) - 1)
  const seeded = await complete({ ...params, n: 2, seed: 5 })
  const alone = await complete({ ...params, seed: 5 })
  assert.equal(seeded.choices[0]?.text, alone.choices[0]?.text)
  assert.notEqual(seeded.choices[1]?.text, alone.choices[0]?.text)
})

test('streamed choices of several prompts carry their numbers', async () => {
  const { chunks } = await stream({ prompt: ['The cat', 'The dog'], n: 2, max_tokens: 4 })
  const texts = ['', '', '', '']
  for (const { choices } of chunks) for (const { index, text } of choices) texts[index] += text
  const apart = await Promise.all([
    textOf({ prompt: 'The cat', max_tokens: 4 }),
    textOf({ prompt: 'The dog', max_tokens: 4 }),
  ])
  assert.deepEqual(texts, [apart[0], apart[0], apart[1], apart[1]])
})

test('token arrays say what the text says', async () => {
  const scored = await complete({ echo: true, logprobs: 0, max_tokens: 0 })
  const names = scored.choices[0]?.logprobs?.tokens ?? []
  const { vocabulary } = await vocabularyOnce()
  const ids = names.map((name) => vocabulary.indexOf(name.replaceAll(' ', 'Ġ')))
  assert.ok(ids.every((id) => id >= 0))
  assert.equal(await textOf({ prompt: ids }), await textOf())
  const both = await complete({ prompt: [ids, ids] as never })
  assert.equal(both.choices.length, 2)
  assert.equal(await textOf({ prompt: ids, echo: true, max_tokens: 0 }), prompt)
  assert.equal((await refused({ prompt: [1, 2, 999_999] })).param, 'prompt[2]')
})

test('echo puts the prompt first, streamed too', async () => {
  const plain = await textOf()
  assert.equal(await textOf({ echo: true }), prompt + plain)
  assert.equal((await stream({ echo: true })).text, prompt + plain)
})

test('logprobs are probabilities: they fit the text, the order and the sum', async () => {
  const reply = await complete({ logprobs: 5, echo: true, max_tokens: 8 })
  const list = reply.choices[0]?.logprobs
  assert.ok(list?.tokens && list.token_logprobs && list.top_logprobs && list.text_offset)
  const text = reply.choices[0]?.text ?? ''
  for (const [i, token] of list.tokens.entries()) {
    if (i > 0)
      assert.equal(text.slice(list.text_offset[i], (list.text_offset[i] as number) + token.length), token)
  }
  assert.equal(list.token_logprobs[0], null)
  const generated = list.top_logprobs.slice(-8)
  for (const [i, top] of generated.entries()) {
    const values = Object.values(top as Record<string, number>)
    assert.ok(values.length === 5 && values.every((value) => value <= 0))
    assert.ok(values.reduce((sum, value) => sum + Math.exp(value), 0) <= 1.0001)
    // Greedy: the token that was taken is the most likely one.
    assert.equal(list.token_logprobs.at(i - 8), Math.max(...values))
  }
  const streamed = await stream({ logprobs: 5, echo: true, max_tokens: 8 })
  const tokens = streamed.chunks.flatMap((chunk) => chunk.choices[0]?.logprobs?.tokens ?? [])
  assert.deepEqual(tokens, list.tokens)
})

test('a character of several tokens is never cut', async () => {
  // Each byte of the prompt's last characters is a token of its own; forbidding all but them forces new ones.
  const { vocabulary } = await vocabularyOnce()
  const lead = vocabulary.indexOf('ð')
  assert.ok(lead >= 0, 'the vocabulary has single bytes')
  const follow = vocabulary.indexOf('Ł')
  const streamed = await stream({
    prompt: 'a',
    max_tokens: 12,
    logit_bias: { [lead]: 100, [follow]: 100 },
    frequency_penalty: 2,
  })
  assert.doesNotMatch(streamed.text, /[\ud800-\udbff](?![\udc00-\udfff])/)
  const emoji = await complete({ prompt: 'the 😀 é', echo: true, max_tokens: 0 })
  assert.equal(emoji.choices[0]?.text, 'the 😀 é')
})

test('a prompt that is too long is refused with both numbers; the context ends a reply', async () => {
  const error = await refused({ prompt: 'dog '.repeat(600) })
  assert.deepEqual([error.status, error.code, error.param], [400, 'context_length_exceeded', 'prompt'])
  assert.match(error.message, /has \d+ tokens; the context of this model holds 512/)
  const reply = await complete({ prompt: 'dog '.repeat(250), max_tokens: 5000 }, { ignore_eos: true })
  assert.equal(reply.usage?.total_tokens, 512)
  assert.equal(reply.choices[0]?.finish_reason, 'length')
  const huge = await refused({ prompt: 'dog '.repeat(500_000) })
  assert.equal(huge.code, 'context_length_exceeded')
})

test('what is not supported is refused by name', async () => {
  const cases: [Record<string, unknown>, string, string][] = [
    [{ best_of: 3 }, 'best_of', 'unsupported_parameter'],
    [{ suffix: 'end' }, 'suffix', 'unsupported_parameter'],
    [{ tools: [] }, 'tools', 'unsupported_parameter'],
    [{ nonsense: 1 }, 'nonsense', 'unsupported_parameter'],
    [{ logprobs: 6 }, 'logprobs', 'invalid_request'],
    [{ logit_bias: { 99_999: 1 } }, 'logit_bias', 'invalid_request'],
    [{ stream_options: { include_usage: true } }, 'stream_options', 'invalid_request'],
    [{ n: 100 }, 'n', 'invalid_request'],
    [{ prompt: null }, 'prompt', 'invalid_request'],
    [{ prompt: [] }, 'prompt', 'invalid_request'],
    [{ prompt: ['a', 1] }, 'prompt[1]', 'invalid_request'],
  ]
  for (const [extra, param, code] of cases) {
    const error = await refused({}, extra)
    assert.deepEqual([error.status, error.param, error.code], [400, param, code])
  }
  const other = await refused({}, { model: 'gpt-5' })
  assert.deepEqual([other.status, other.code], [404, 'model_not_found'])
})

test(
  'a model that nobody here trained continues its known prompt word for word',
  { skip: storiesMissing },
  async () => {
    const stories = await startEngine({ model: storiesPath })
    try {
      const api = new OpenAI({ baseURL: `${stories.url}/v1`, apiKey: 'none' })
      const known =
        ', there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.'
      const params = { model: 'stories260K', prompt, temperature: 0, max_tokens: 200 }
      const whole = await api.completions.create(params)
      assert.ok(whole.choices[0]?.text.startsWith(known))
      let streamed = ''
      for await (const chunk of await api.completions.create({ ...params, stream: true })) {
        streamed += chunk.choices[0]?.text ?? ''
      }
      assert.equal(streamed, whole.choices[0]?.text)
      // It has no chat template: the plain format takes its place.
      const chat = await api.chat.completions.create({
        model: 'stories260K',
        messages: [{ role: 'user', content: 'Hello' }],
        max_tokens: 20,
      })
      assert.equal(typeof chat.choices[0]?.message.content, 'string')
    } finally {
      await stories.stop()
    }
  },
)

test('many sequences with log probabilities at once: every list is whole and true', async () => {
  const ask = () => complete({ n: 4, logprobs: 5, max_tokens: 60, temperature: 1 }, { ignore_eos: true })
  for (const reply of await Promise.all([ask(), ask(), ask()])) {
    for (const { logprobs } of reply.choices) {
      assert.equal(logprobs?.token_logprobs?.length, 60)
      for (const [at, chosen] of (logprobs?.token_logprobs ?? []).entries()) {
        const top = Object.values(logprobs?.top_logprobs?.[at] ?? {})
        assert.ok(chosen <= 0 && chosen <= Math.max(...top) + 1e-6, `${chosen} beside ${top.join(', ')}`)
      }
    }
  }
})
