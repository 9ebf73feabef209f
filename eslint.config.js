import tseslint from 'typescript-eslint';

/** The planes never import one another (ARCHITECTURE.md); what they share lies in src/ itself. */
const stayOut = (from, message) => ({ 'no-restricted-imports': ['error', { patterns: [{ group: from, message }] }] });

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', 'eslint.config.js'] },
  tseslint.configs.recommended,
  {
    files: ['**/*.ts'],
    languageOptions: { parserOptions: { project: './tsconfig.json' } },
    rules: {
      eqeqeq: 'error',
      'no-console': 'error',
      'max-lines': ['error', { max: 400, skipBlankLines: true }],
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', name: ['test', 'describe', 'it', 'suite'], package: 'node:test' },
          ],
        },
      ],
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/return-await': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-unnecessary-type-assertion': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', caughtErrors: 'none' }],
    },
  },
  {
    files: ['src/proxy/**'],
    rules: stayOut(['**/manager/**', '**/web/**'], 'the data plane knows nothing of the control plane'),
  },
  {
    files: ['src/manager/**'],
    rules: stayOut(['**/proxy/**', '**/web/**'], 'the manager knows nothing of the data plane or of pages'),
  },
  {
    files: ['src/client/**'],
    rules: stayOut(['**/proxy/**', '**/manager/**', '**/web/**'], 'the client knows managers by their API alone'),
  },
  { files: ['src/web/**'], rules: stayOut(['**/proxy/**'], 'pages are made from what the manager knows') },
  {
    files: ['test/**', 'bench/**', 'examples/**'],
    rules: { 'no-console': 'off', 'no-empty': 'off', 'max-lines': ['error', { max: 500, skipBlankLines: true }] },
  },
);
