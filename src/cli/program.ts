import { Command, CommanderError } from 'commander'
import { addAccessCommands } from './access.ts'
import type { ChatOptions } from './chat.ts'
import type { InstanceFlags } from './instance.ts'
import type { ModelsOptions } from './models.ts'
import { addConfigOptions, splitConfigOptions, urlFlag, type ConfigOptions } from './options.ts'
import { addBatchCommand } from './batch.ts'
import { describeFailure, surviveClosedOutput, wantsDetails } from './report.ts'
import { addStorageCommand } from './storage.ts'
import { addTaskCommands } from './task.ts'
import { addUsageCommand } from './usage.ts'
import { commandName } from '../core/command-name.ts'
import { readVersion } from './version.ts'

/** Each command is loaded when it is run: `--help` and `chat` need neither the gateway nor the engine. */
const commands = {
  serve: async (options: ConfigOptions) =>
    (await import('./serve.ts')).serve({ ...splitConfigOptions(options), role: 'server' }),
  worker: async (options: ConfigOptions) =>
    (await import('./serve.ts')).serve({ ...splitConfigOptions(options), role: 'worker' }),
  validate: async ({ print, ...options }: ConfigOptions & { print?: boolean }) =>
    (await import('./validate.ts')).validate({ ...splitConfigOptions(options), print: print ?? false }),
  chat: async (question: string[], options: ChatOptions) =>
    (await import('./chat.ts')).chat(question.join(' '), options),
  models: async (options: ModelsOptions) => (await import('./models.ts')).showModels(options),
  instance: async (options: InstanceFlags) => (await import('./instance.ts')).runAlone(options),
}

const examples = `
Examples:
  ${commandName} serve                                     the bundled demonstration model
  ${commandName} serve --model ./llama.gguf --instances 2  a model file of yours
  ${commandName} serve --model hf:user/repo:file.gguf      downloaded once
  ${commandName} serve --upstream http://127.0.0.1:8000    a vLLM, SGLang, llama-server or Ollama that runs
  ${commandName} chat                                      talk to the server
  ${commandName} task submit --model tiny --prompt 'Once'  work that can wait
  ${commandName} batch requests.jsonl                      many requests, and a file of their answers
  ${commandName} validate                                  check the configuration

Settings come from autoglm.yaml, then from variables such as AUTOGLM_SERVER_PORT, then from flags; each is stronger
than the one before. docs/configuration.md lists them all, docs/cli.md shows the commands at work.
`

/** The command line. `onResult` is given the exit code of the command that ran. */
export function buildProgram(onResult: (code: number) => void): Command {
  const program = new Command('autoglm')
    .description('Serve language models: one fast OpenAI-compatible endpoint over local and remote model servers.')
    .version(readVersion(), '-v, --version', 'show the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand('help [command]', 'show the help of a command')
    .showHelpAfterError(`(${commandName} --help shows how it is used)`)
    .addHelpText('after', examples)
    .exitOverride()

  addConfigOptions(program.command('serve'))
    .description('run the server')
    .action(async (options: ConfigOptions) => onResult(await commands.serve(options)))

  addConfigOptions(program.command('worker'))
    .description('work on the tasks of a PostgreSQL storage, beside servers and other workers')
    .action(async (options: ConfigOptions) => onResult(await commands.worker(options)))

  program
    .command('chat [question...]')
    .description('talk to a running server; with a question, print one answer and end')
    .option(...urlFlag)
    .option('--model <name>', 'model to talk to (default: the first that the server lists)')
    .option('--system <text>', 'instructions for the model')
    .option('--temperature <number>', 'how freely the model chooses its words, from 0 to 2')
    .option('--max-tokens <number>', 'longest answer, in tokens')
    .addHelpText('after', '\nInside: /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends.\nA key is read from AUTOGLM_API_KEY.')
    .action(async (question: string[], options: ChatOptions) => onResult(await commands.chat(question, options)))

  program
    .command('models')
    .description('list the models of a running server, with their instances')
    .option(...urlFlag)
    .option('--json', 'print JSON')
    .action(async (options: ModelsOptions) => onResult(await commands.models(options)))

  program
    .command('instance')
    .description('run one model instance alone, without the gateway')
    .requiredOption('--model <source>', 'tiny, a GGUF file, or hf:user/repo:file.gguf')
    .option('--name <name>', 'name of the model in requests (default: that of the file)')
    .option('--host <address>', 'address to listen on (default: 127.0.0.1)')
    .option('--port <number>', 'port to listen on; 0 takes a free one (default: 8081)')
    .option('--socket <path>', 'listen on this Unix socket instead')
    .option('--parallel <number>', 'sequences decoded together')
    .option('--waiting-max <number>', 'requests that may wait for a free sequence')
    .option('--context-tokens <number>', 'context of each sequence; 0: as trained, at most 4096')
    .option('--threads <number>', 'threads that decode; 0: all cores but one')
    .option('--gpu <mode>', 'off, auto, cuda, vulkan or metal')
    .option('--data-dir <folder>', 'folder for downloaded models (default: .autoglm)')
    .option('--log-level <level>', 'least severe level that is written')
    .action(async (options: InstanceFlags) => onResult(await commands.instance(options)))

  addTaskCommands(program, onResult)
  addBatchCommand(program, onResult)
  addAccessCommands(program, onResult)
  addUsageCommand(program, onResult)
  addStorageCommand(program, onResult)

  addConfigOptions(program.command('validate'))
    .description('check the configuration without starting')
    .option('--print', 'print the configuration in effect as YAML')
    .action(async (options: ConfigOptions & { print?: boolean }) => onResult(await commands.validate(options)))

  return program
} // prettier-ignore

/** These work on without a reader of their banner; every other command has nothing left to do. */
const goesOnUnread: ReadonlySet<string | undefined> = new Set(['serve', 'worker', 'instance'])

/** Runs a command line; resolves with the exit code. Nothing that is thrown leaves it. */
export async function runCommandLine(argv: readonly string[]): Promise<number> {
  surviveClosedOutput(() => {
    if (!goesOnUnread.has(argv[0])) process.exit(0)
  })
  let code = 0
  try {
    const program = buildProgram((result) => {
      code = result
    })
    await program.parseAsync([...argv], { from: 'user' })
  } catch (error) {
    // Help, the version and mistakes in the flags: commander has written what there is to say.
    if (error instanceof CommanderError) return error.exitCode
    process.stderr.write(describeFailure(error, wantsDetails(process.env, argv)))
    return 1
  }
  return code
}
