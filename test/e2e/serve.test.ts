import { strict as assert } from 'node:assert'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import OpenAI from 'openai'
import { chat, post, readMetric } from '../helpers/gateway.ts'
import { eventually, Server } from '../helpers/server.ts'
import { answerChat, FakeUpstream } from '../helpers/upstream.ts'

const run = promisify(execFile)

test('the first minute: ready on two instances, a curl line that works when pasted, a streamed chat', async () => {
  const startedAt = performance.now()
  await using server = await Server.start()
  const tookMs = performance.now() - startedAt
  assert.ok(tookMs < 60_000, `ready after ${tookMs} ms`)
  assert.match(server.stdout, /tiny-0 ready, tiny-1 ready/)

  const line = /^ {2}curl [^\n]+\\\n[^\n]+/m.exec(server.stdout)?.[0] as string
  const { stdout } = await run('bash', ['-c', line])
  const pasted = JSON.parse(stdout) as OpenAI.ChatCompletion
  assert.ok((pasted.choices[0]?.message.content ?? '').length > 10)

  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none' })
  const stream = await client.chat.completions.create({
    model: 'tiny',
    messages: [{ role: 'user', content: 'Hello! Who are you?' }],
    stream: true,
    stream_options: { include_usage: true },
  })
  let text = ''
  let usage: OpenAI.CompletionUsage | null | undefined
  let reason: string | null | undefined
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? ''
    reason = chunk.choices[0]?.finish_reason ?? reason
    usage = chunk.usage ?? usage
  }
  assert.match(text, /[a-z]+.*[.!?]/)
  assert.equal(reason, 'stop')
  assert.ok(usage && usage.prompt_tokens > 3 && usage.completion_tokens > 3)
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
  const completionTokens = usage.completion_tokens
  await eventually('its tokens are counted', async () => {
    const counted = await readMetric(server.url, 'autoglm_tokens_total{model="tiny",kind="completion"}')
    return counted >= completionTokens
  })
  await server.hears('stderr', /"endpoint":"\/v1\/chat\/completions","status":200/)
  assert.ok(!server.stderr.includes('Who are you'), 'a prompt is in the log')
})

test('a saved file and SIGHUP reload without losing a request; a bad file is refused and the old one stays', async () => {
  await using a = await FakeUpstream.start(answerChat(['from a']))
  await using b = await FakeUpstream.start(answerChat(['from b']))
  const config = (upstream: FakeUpstream, name: string, more = {}) => ({
    upstreams: [{ name, url: upstream.url, models: { m: 'm' } }],
    ...more,
  })
  await using server = await Server.start({ config: config(a, 'a') })
  const file = join(server.folder, 'autoglm.yaml')

  let running = true
  const failed: number[] = []
  let answered = 0
  const load = async () => {
    while (running) {
      const response = await post(server.url, '/v1/chat/completions', chat())
      await response.arrayBuffer()
      if (response.status === 200) answered += 1
      else failed.push(response.status)
    }
  }
  const clients = Array.from({ length: 4 }, load)
  const asks = async () =>
    (await post(server.url, '/v1/chat/completions', chat())).headers.get('x-autoglm-instance')

  await writeFile(file, JSON.stringify(config(b, 'b')))
  await eventually('the saved file is in force', async () => (await asks()) === 'b')

  await writeFile(file, '{"upstreams": [{"name": "b", "url": "ftp://x"}], "serverr": {}}')
  await server.hears('stderr', /the old one stays/)
  assert.match(server.stderr, /serverr.*did you mean server/)
  assert.equal(await asks(), 'b')

  await writeFile(
    file,
    JSON.stringify(config(a, 'a2', { routing: { policy: 'least_conn', aliases: { nick: 'm' } } })),
  )
  server.child.kill('SIGHUP')
  await eventually('the next file is in force', async () => (await asks()) === 'a2')
  assert.equal((await post(server.url, '/v1/chat/completions', chat({ model: 'nick' }))).status, 200)

  running = false
  await Promise.all(clients)
  assert.deepEqual(failed, [])
  assert.ok(answered > 20)
})

const stories = join(import.meta.dirname, '../../../shared/models/stories260K.gguf')

test('a model that others trained continues its known prompt word for word through the whole stack', async (t) => {
  if (!existsSync(stories)) return t.skip(`${stories} is not there`)
  await using server = await Server.start({ args: ['--model', stories] })
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none' })
  const ask = { model: 'stories260K', prompt: 'Once upon a time', max_tokens: 60, temperature: 0 } as const
  const expected =
    ', there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.'
  const whole = await client.completions.create(ask)
  assert.ok(whole.choices[0]?.text.startsWith(expected), whole.choices[0]?.text)
  let streamed = ''
  for await (const chunk of await client.completions.create({ ...ask, stream: true })) {
    streamed += chunk.choices[0]?.text ?? ''
  }
  assert.equal(streamed, whole.choices[0]?.text)
})
