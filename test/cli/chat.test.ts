import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { after, before, beforeEach, describe, it } from 'node:test'
import { answerBackwards, chunk, Command, run, startFakeServer } from './command.ts'

describe('autoglm chat', () => {
  let fake: Awaited<ReturnType<typeof startFakeServer>>
  before(async () => {
    fake = await startFakeServer()
  })
  after(() => fake.close())
  beforeEach(() => {
    fake.chats.length = 0
    fake.keys.length = 0
    fake.onChat = answerBackwards
  })
  const cwd = '/'
  const chat = (args: string[], options: { input?: string; env?: Record<string, string> } = {}) =>
    run(['chat', '--url', fake.url, ...args], { cwd, ...options })

  it('answers one question and ends', async () => {
    const { code, stdout, stderr } = await chat(['abc', 'def', '--system', 'Be kind.', '--temperature', '0.5', '--max-tokens', '9'])
    assert.equal(stdout, 'fed cba\n')
    assert.equal(stderr, '')
    assert.equal(code, 0)
    assert.deepEqual(fake.chats, [
      {
        model: 'one',
        messages: [{ role: 'system', content: 'Be kind.' }, { role: 'user', content: 'abc def' }],
        temperature: 0.5,
        max_tokens: 9,
        stream: true,
      },
    ])
  }) // prettier-ignore

  it('takes each line of a pipe for a turn and remembers those before', async () => {
    const { code, stdout } = await chat([], { input: 'ab\n\ncd\n' })
    assert.equal(stdout, 'ba\ndc\n')
    assert.equal(code, 0)
    assert.deepEqual(fake.chats[1]?.messages, [
      { role: 'user', content: 'ab' },
      { role: 'assistant', content: 'ba' },
      { role: 'user', content: 'cd' },
    ])
  })

  it('knows its commands', async () => {
    const input = '/system Be kind.\nab\n/reset\n/model two\ncd\n/model three\n/model\n/what\n/help\n/exit\nno\n'
    const { stdout, stderr } = await chat([], { input })
    assert.equal(stdout, 'ba\ndc\n')
    assert.equal(fake.chats[0]?.messages[0]?.content, 'Be kind.')
    assert.deepEqual(fake.chats[1]?.messages.map(({ content }) => content), ['Be kind.', 'cd'])
    assert.equal(fake.chats[1]?.model, 'two')
    assert.match(stderr, /no model three; there are: one, two\n {2}one\n\* two\nunknown command \/what; \/help lists them\n\/reset/)
  }) // prettier-ignore

  it('sends the key of AUTOGLM_API_KEY, and finds the server of AUTOGLM_URL', async () => {
    const env = { AUTOGLM_API_KEY: 'k3y', AUTOGLM_URL: `${fake.url}/v1/` }
    const { code } = await run(['chat', 'hi'], { cwd, env })
    assert.equal(code, 0)
    assert.deepEqual(fake.keys, ['Bearer k3y', 'Bearer k3y'])
  })

  /** Answers with a beginning and goes on for ever. */
  const neverEnds = (closed: PromiseWithResolvers<void>): typeof answerBackwards => (_body, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write(chunk('Once upon'))
    response.on('close', () => closed.resolve())
  } // prettier-ignore

  it('stops the answer at Ctrl-C and goes on; at the next it ends', async () => {
    const closed = Promise.withResolvers<void>()
    fake.onChat = neverEnds(closed)
    const command = new Command(['chat', '--url', fake.url], { cwd })
    command.send('ab\n')
    await command.says(/Once upon/)
    command.kill('SIGINT')
    await closed.promise
    await command.says(/\(stopped\)/)

    fake.onChat = answerBackwards
    command.send('cd\n')
    await command.says(/dc\n/)
    assert.deepEqual(fake.chats[1]?.messages.map(({ content }) => content), ['ab', 'Once upon', 'cd'])

    command.kill('SIGINT')
    const { code, stderr } = await command.exit()
    assert.equal(code, 130)
    assert.equal(stderr, '(stopped)\n')
  }) // prettier-ignore

  it('ends at Ctrl-C with a single question', async () => {
    const closed = Promise.withResolvers<void>()
    fake.onChat = neverEnds(closed)
    const command = new Command(['chat', '--url', fake.url, 'hi'], { cwd })
    await command.says(/Once upon/)
    command.kill('SIGINT')
    await closed.promise
    assert.equal((await command.exit()).code, 130)
  })

  const failures: readonly [name: string, onChat: typeof answerBackwards, message: RegExp][] = [
    ['refuses', (_body, response) => response.writeHead(400).end('{"error":{"message":"No such thing."}}'), /^error: .* answered 400: No such thing\.\n$/],
    ['wants a key', (_body, response) => response.writeHead(401).end('{"error":{"message":"no"}}'), /^error: .* refuses the request \(401\); set AUTOGLM_API_KEY\n$/],
    ['breaks off with an error', (_body, response) => response.end(`${chunk('x')}data: {"error":{"message":"The instance died."}}\n\n`), /^error: the answer broke off: The instance died\.\n$/],
    ['breaks off in silence', (_body, response) => response.end(chunk('x')), /^error: the answer broke off: .* ended it too early\n$/],
    ['hangs up', (_body, response) => response.write(chunk('x'), () => response.destroy()), /^error: the answer broke off: the connection to .* was lost\n$/],
    ['talks nonsense', (_body, response) => response.end('data: {nonsense\n\n'), /^error: the server sent an event that is not JSON\n$/],
  ] // prettier-ignore
  for (const [name, onChat, message] of failures) {
    it(`says so when the server ${name}`, async () => {
      fake.onChat = onChat
      const { code, stderr } = await chat(['hi'])
      assert.match(stderr, message)
      assert.equal(code, 1)
      assert.equal((await chat([], { input: 'a\nb\n' })).code, 1)
    })
  }

  const mistakes: readonly [name: string, args: string[], message: RegExp][] = [
    ['no server is there', ['chat', '--url', 'http://127.0.0.1:1', 'hi'], /^error: no server answers at http:\/\/127\.0\.0\.1:1 \(.+\); start one with: .* serve\nor name another with --url\n$/],
    ['the URL is none', ['chat', '--url', 'localhost:8080', 'hi'], /^error: --url localhost:8080 is not a URL/],
    ['the temperature is none', ['chat', '--temperature', 'hot', 'hi'], /^error: --temperature hot is not allowed; a number from 0 to 2\n$/],
    ['the length is none', ['chat', '--max-tokens', '1.5', 'hi'], /^error: --max-tokens 1\.5 is not allowed; a whole number from 1 to 10000000\n$/],
  ] // prettier-ignore
  for (const [name, args, message] of mistakes) {
    it(`says so when ${name}`, async () => {
      const { code, stderr } = await run(args, { cwd })
      assert.match(stderr, message)
      assert.equal(code, 1)
    })
  }

  it('says so when the model is not there', async () => {
    const { code, stderr } = await chat(['--model', 'three', 'hi'])
    assert.match(stderr, /^error: .* has no model three; there are: one, two\n$/)
    assert.equal(code, 1)
  })

  it('ends when its pipe ends without a word', async () => {
    const command = new Command(['chat', '--url', fake.url], { cwd })
    command.end()
    const exit = once(command.child, 'exit')
    assert.deepEqual(await exit, [0, null])
  })
})

describe('autoglm models', () => {
  it('lists models, their state and their instances', async () => {
    const fake = await startFakeServer()
    fake.models = [
      { id: 'tiny', instances: { total: 2, available: 2 } },
      { id: 'llama-3', instances: { total: 2, available: 1 } },
      { id: 'gone', instances: { total: 1, available: 0 } },
      { id: 'gpt', alias_of: 'tiny', instances: { total: 2, available: 2 } },
    ]
    const { code, stdout } = await run(['models', '--url', fake.url], { cwd: '/' })
    assert.equal(
      stdout,
      'MODEL    STATE        INSTANCES         ALIAS OF\n' +
        'tiny     ready        2 of 2 available\n' +
        'llama-3  degraded     1 of 2 available\n' +
        'gone     unavailable  0 of 1 available\n' +
        'gpt      ready        2 of 2 available  tiny\n',
    )
    assert.equal(code, 0)
    const json = await run(['models', '--json', '--url', fake.url], { cwd: '/' })
    assert.deepEqual(JSON.parse(json.stdout), { models: fake.models, health: null })
    fake.close()
  })

  it('says so when no server is there', async () => {
    const { code, stderr } = await run(['models', '--url', 'http://127.0.0.1:1'], { cwd: '/' })
    assert.match(stderr, /^error: no server answers at/)
    assert.equal(code, 1)
  })
})
